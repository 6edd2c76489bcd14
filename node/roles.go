package node

import (
	"fmt"

	"connectrpc.com/connect"

	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/transport"
)

// leastRole is the role that a procedure of the AdminService takes. One that nobody
// has thought about takes the greatest.
func leastRole(procedure string) fsm.Role {
	switch procedure {
	case lifeboatv1connect.AdminServiceStatusProcedure, lifeboatv1connect.AdminServiceListNodesProcedure, lifeboatv1connect.AdminServiceListHostsProcedure,
		lifeboatv1connect.AdminServiceListVMsProcedure, lifeboatv1connect.AdminServiceListWorkProcedure, lifeboatv1connect.AdminServiceListAlertsProcedure,
		lifeboatv1connect.AdminServiceListEventsProcedure, lifeboatv1connect.AdminServiceExplainProcedure, lifeboatv1connect.AdminServiceGetPolicyProcedure,
		lifeboatv1connect.AdminServiceListOperatorsProcedure, lifeboatv1connect.AdminServiceListRulesProcedure,
		lifeboatv1connect.AdminServicePlanProcedure, lifeboatv1connect.AdminServiceListIncidentsProcedure,
		lifeboatv1connect.AdminServiceListUsageProcedure, lifeboatv1connect.AdminServiceListUsageResourcesProcedure,
		lifeboatv1connect.AdminServiceDescribeUsageProcedure, lifeboatv1connect.AdminServiceVerifyUsageProcedure,
		lifeboatv1connect.AdminServiceListReceiversProcedure, lifeboatv1connect.AdminServiceListSilencesProcedure:
		return fsm.RoleViewer
	case lifeboatv1connect.AdminServiceProtectVMProcedure, lifeboatv1connect.AdminServiceControlVMProcedure, lifeboatv1connect.AdminServiceControlHostProcedure,
		lifeboatv1connect.AdminServiceControlWorkProcedure, lifeboatv1connect.AdminServiceControlAlertProcedure, lifeboatv1connect.AdminServiceControlHAProcedure,
		lifeboatv1connect.AdminServiceTestFenceProcedure, lifeboatv1connect.AdminServiceAddRuleProcedure, lifeboatv1connect.AdminServiceRemoveRuleProcedure,
		lifeboatv1connect.AdminServiceSetVMProcedure, lifeboatv1connect.AdminServiceRecordUsageProcedure,
		lifeboatv1connect.AdminServiceRaiseAlertsProcedure, lifeboatv1connect.AdminServiceTestReceiverProcedure, lifeboatv1connect.AdminServiceSetSilenceProcedure:
		return fsm.RoleOperator
	}
	return fsm.RoleAdmin
}

// permit refuses an operator whose role is not enough.
func permit(s *fsm.State, id transport.Identity, procedure string) error {
	role, least := s.RoleOf(id.Name), leastRole(procedure)
	if role >= least {
		return nil
	}
	return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("operator %s has the role %s, and this takes the role %s; an administrator can give it: `lifeboat operator set %s %s`",
		id.Name, role, least, id.Name, least))
}
