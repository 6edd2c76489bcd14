package main

import (
	"context"
	"fmt"
	"time"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// TokenCmd is 'lifeboat token'.
type TokenCmd struct {
	Create TokenCreateCmd `cmd:"" help:"Make a token by which a server, an agent or an operator joins."`
	List   TokenListCmd   `cmd:"" help:"List the tokens."`
	Revoke TokenRevokeCmd `cmd:"" help:"Let nobody join by a token any more."`
}

// TokenCreateCmd is 'lifeboat token create'.
type TokenCreateCmd struct {
	Kind  string        `arg:"" enum:"server,agent,operator" help:"Who joins by it: ${enum}."`
	Name  string        `placeholder:"NAME" help:"Only this one may join by it, also if there is one of that name that it replaces. Operators need it."`
	Role  string        `placeholder:"ROLE" help:"What the operator may do: viewer, operator or admin."`
	Uses  uint32        `default:"1" help:"How many may join by it, 1 to 1000."`
	Lasts time.Duration `default:"1h" help:"How long it is good for, up to 8760h."`
	Quiet bool          `short:"q" help:"Print the token alone, for scripts."`
}

// Run makes a token.
func (c *TokenCreateCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	switch {
	case c.Kind == "operator" && (c.Name == "" || c.Role == ""):
		return cli.Usage("for example: lifeboat token create operator --name alice --role viewer", "a token for an operator takes --name and --role")
	case c.Lasts < time.Millisecond:
		return cli.Usage("write for example 30m or 24h", "wrong --lasts %s", c.Lasts)
	}
	client, err := cli.Open(env, g)
	if err != nil {
		return err
	}
	defer client.Close()
	r, err := cli.WriteLed(ctx, client, lifeboatv1connect.AdminServiceClient.CreateToken,
		&pb.CreateTokenRequest{Kind: c.Kind, Name: c.Name, Role: c.Role, Uses: c.Uses, LastsMs: c.Lasts.Milliseconds()})
	if err != nil {
		return err
	}
	if c.Quiet {
		_, err := fmt.Fprintln(env.Stdout, r.Token)
		return err
	}
	how := map[string]string{"server": "lifeboat server join ADDR --token TOKEN", "agent": "lifeboat agent join ADDR --token TOKEN", "operator": "lifeboat login ADDR --token TOKEN --name " + c.Name}[c.Kind]
	return cli.Print(env, g, r, func(v *cli.View, r *pb.CreateTokenResponse) {
		v.Line("%s", r.Token)
		v.Line("Use it with '%s', until %s. It is shown this once; whoever has it can join.", how, time.Unix(0, r.ExpiresUnixNs).UTC().Format(time.RFC3339))
	})
}

// TokenListCmd is 'lifeboat token list'.
type TokenListCmd struct {
	cli.ReadFlags
}

// Run lists the tokens.
func (c *TokenListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListTokensResponse, error) {
		return cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListTokens, &pb.ListTokensRequest{Stale: c.Stale})
	}, func(v *cli.View, r *pb.ListTokensResponse) {
		cli.DrawTable(v, []cli.Column[*pb.TokenView]{
			{Title: "TOKEN", Cell: func(_ *cli.View, t *pb.TokenView) string { return t.Id }},
			{Title: "FOR", Cell: func(_ *cli.View, t *pb.TokenView) string { return t.Kind }},
			{Title: "NAME", Cell: func(_ *cli.View, t *pb.TokenView) string { return dash(t.Name) }},
			{Title: "ROLE", Cell: func(_ *cli.View, t *pb.TokenView) string { return dash(t.Role) }},
			{Title: "USED", Cell: func(_ *cli.View, t *pb.TokenView) string { return fmt.Sprintf("%d of %d", t.Used, t.Used+t.Left) }},
			{Title: "MADE", Cell: func(v *cli.View, t *pb.TokenView) string { return v.Time(t.CreatedUnixNs) }},
			{Title: "BY", Cell: func(_ *cli.View, t *pb.TokenView) string { return t.By }},
			{Title: "EXPIRES", Cell: func(_ *cli.View, t *pb.TokenView) string {
				return time.Unix(0, t.ExpiresUnixNs).UTC().Format("2006-01-02 15:04Z")
			}},
			{Title: "NOTE", Cell: func(_ *cli.View, t *pb.TokenView) string { return t.Spent }},
		}, r.Tokens, "There are no tokens.")
	})
}

// TokenRevokeCmd is 'lifeboat token revoke'.
type TokenRevokeCmd struct {
	Token string `arg:"" help:"Id of the token; 'lifeboat token list' shows it."`
}

// Run revokes a token.
func (c *TokenRevokeCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.RevokeToken, &pb.RevokeTokenRequest{Id: c.Token}, "token "+c.Token+" is revoked", "'lifeboat token list' shows the tokens")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
