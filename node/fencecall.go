package node

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

func (a *adminAPI) TestFence(ctx context.Context, req *connect.Request[lifeboatv1.TestFenceRequest]) (*connect.Response[lifeboatv1.TestFenceResponse], error) {
	return nil, connect.NewError(connect.CodeUnimplemented, errors.New("not yet"))
}

func (a nodeAPI) FenceTicket(ctx context.Context, req *connect.Request[lifeboatv1.FenceTicketRequest]) (*connect.Response[lifeboatv1.FenceTicketResponse], error) {
	return nil, connect.NewError(connect.CodeUnimplemented, errors.New("not yet"))
}

func (a nodeAPI) RunFence(ctx context.Context, req *connect.Request[lifeboatv1.RunFenceRequest]) (*connect.Response[lifeboatv1.FenceOutcome], error) {
	return nil, connect.NewError(connect.CodeUnimplemented, errors.New("not yet"))
}
