package libvirt

import (
	golibvirt "github.com/digitalocean/go-libvirt"

	"lifeboat/hypervisor"
)

// stateOf translates libvirt's state and its reason, whose numbers mean
// something else in every state.
func stateOf(state, reason int32) (hypervisor.State, hypervisor.Reason) {
	switch golibvirt.DomainState(state) {
	case golibvirt.DomainRunning, golibvirt.DomainBlocked:
		return hypervisor.StateRunning, runningReason(reason)
	case golibvirt.DomainPaused:
		return hypervisor.StatePaused, pausedReason(reason)
	case golibvirt.DomainShutdown:
		return hypervisor.StateShuttingDown, hypervisor.ReasonShuttingDown
	case golibvirt.DomainShutoff:
		return hypervisor.StateOff, offReason(reason)
	case golibvirt.DomainCrashed:
		if golibvirt.DomainCrashedReason(reason) == golibvirt.DomainCrashedPanicked {
			return hypervisor.StateCrashed, hypervisor.ReasonPanicked
		}
		return hypervisor.StateCrashed, hypervisor.ReasonCrashed
	case golibvirt.DomainPmsuspended:
		return hypervisor.StatePMSuspended, hypervisor.ReasonUnknown
	}
	return hypervisor.StateUnknown, hypervisor.ReasonUnknown
}

func runningReason(r int32) hypervisor.Reason {
	switch golibvirt.DomainRunningReason(r) {
	case golibvirt.DomainRunningBooted:
		return hypervisor.ReasonBooted
	case golibvirt.DomainRunningMigrated, golibvirt.DomainRunningPostcopy, golibvirt.DomainRunningPostcopyFailed:
		return hypervisor.ReasonMigrated
	case golibvirt.DomainRunningRestored:
		return hypervisor.ReasonRestored
	case golibvirt.DomainRunningFromSnapshot:
		return hypervisor.ReasonSnapshot
	case golibvirt.DomainRunningUnpaused, golibvirt.DomainRunningMigrationCanceled, golibvirt.DomainRunningSaveCanceled:
		return hypervisor.ReasonUser
	case golibvirt.DomainRunningWakeup:
		return hypervisor.ReasonWakeup
	case golibvirt.DomainRunningCrashed:
		return hypervisor.ReasonCrashed
	}
	return hypervisor.ReasonUnknown
}

func pausedReason(r int32) hypervisor.Reason {
	switch golibvirt.DomainPausedReason(r) {
	case golibvirt.DomainPausedUser:
		return hypervisor.ReasonUser
	case golibvirt.DomainPausedMigration, golibvirt.DomainPausedPostcopy, golibvirt.DomainPausedPostcopyFailed:
		return hypervisor.ReasonMigrating
	case golibvirt.DomainPausedSave, golibvirt.DomainPausedDump:
		return hypervisor.ReasonSaving
	case golibvirt.DomainPausedIoerror:
		return hypervisor.ReasonIOError
	case golibvirt.DomainPausedWatchdog:
		return hypervisor.ReasonWatchdog
	case golibvirt.DomainPausedFromSnapshot, golibvirt.DomainPausedSnapshot:
		return hypervisor.ReasonSnapshot
	case golibvirt.DomainPausedShuttingDown:
		return hypervisor.ReasonShuttingDown
	case golibvirt.DomainPausedCrashed:
		return hypervisor.ReasonCrashed
	case golibvirt.DomainPausedStartingUp:
		return hypervisor.ReasonStarting
	}
	return hypervisor.ReasonUnknown
}

func offReason(r int32) hypervisor.Reason {
	switch golibvirt.DomainShutoffReason(r) {
	case golibvirt.DomainShutoffShutdown:
		return hypervisor.ReasonShutdown
	case golibvirt.DomainShutoffDestroyed:
		return hypervisor.ReasonDestroyed
	case golibvirt.DomainShutoffCrashed:
		return hypervisor.ReasonCrashed
	case golibvirt.DomainShutoffMigrated:
		return hypervisor.ReasonMigrated
	case golibvirt.DomainShutoffSaved:
		return hypervisor.ReasonSaved
	case golibvirt.DomainShutoffFailed:
		return hypervisor.ReasonFailed
	case golibvirt.DomainShutoffFromSnapshot:
		return hypervisor.ReasonSnapshot
	case golibvirt.DomainShutoffDaemon:
		return hypervisor.ReasonDaemon
	}
	return hypervisor.ReasonUnknown
}

// stopReason translates the detail of a STOPPED event.
func stopReason(detail int32) hypervisor.Reason {
	switch golibvirt.DomainEventStoppedDetailType(detail) {
	case golibvirt.DomainEventStoppedShutdown:
		return hypervisor.ReasonShutdown
	case golibvirt.DomainEventStoppedDestroyed:
		return hypervisor.ReasonDestroyed
	case golibvirt.DomainEventStoppedCrashed:
		return hypervisor.ReasonCrashed
	case golibvirt.DomainEventStoppedMigrated:
		return hypervisor.ReasonMigrated
	case golibvirt.DomainEventStoppedSaved:
		return hypervisor.ReasonSaved
	case golibvirt.DomainEventStoppedFailed:
		return hypervisor.ReasonFailed
	case golibvirt.DomainEventStoppedFromSnapshot:
		return hypervisor.ReasonSnapshot
	}
	return hypervisor.ReasonUnknown
}
