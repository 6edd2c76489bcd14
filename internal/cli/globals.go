package cli

import "time"

// Globals are the flags that every command accepts, before or after its name.
type Globals struct {
	Output      Format        `short:"o" enum:"table,wide,json,yaml" default:"table" group:"Output:" help:"How to print: ${enum}. Table shows ages, wide adds columns and shows times, json and yaml carry every field."`
	Addr        string        `placeholder:"HOST:PORT,..." group:"Connection:" help:"Management nodes, tried in this order; any of them forwards to the leader (LIFEBOAT_ADDR)."`
	Cert        string        `placeholder:"FILE" group:"Connection:" help:"Your certificate (LIFEBOAT_CERT)."`
	Key         string        `placeholder:"FILE" group:"Connection:" help:"The private key of the certificate (LIFEBOAT_KEY)."`
	CA          string        `name:"ca" placeholder:"FILE" group:"Connection:" help:"The cluster's CA certificate (LIFEBOAT_CA)."`
	Context     string        `placeholder:"FILE" group:"Connection:" help:"YAML file with addrs, cert, key and ca, for what is not given above (LIFEBOAT_CONTEXT; else a running 'lifeboat dev', else ~/.config/lifeboat/context.yaml)."`
	Timeout     time.Duration `default:"15s" group:"Connection:" help:"How long to wait for an answer."`
	Consistency string        `enum:"leader,stale,linearizable" default:"leader" group:"Connection:" help:"What a read may miss. leader: the leader's state; stale: that of the node asked, which may be behind; linearizable: nothing that was confirmed before."`
	RequestID   string        `name:"request-id" placeholder:"ID" group:"Connection:" help:"Id of what is changed: asked again with the same id, it is not done again. Without it each invocation makes one."`
	Verbose     bool          `short:"v" group:"Connection:" help:"Say on stderr which nodes are asked and how they were found."`
}

// ReadFlags belong to commands that look and change nothing.
type ReadFlags struct {
	Watch bool `short:"w" help:"Look again every second until interrupted: redraws on a terminal, appends elsewhere."`
	Stale bool `help:"Take the answer of the node asked, also when it is not the leader and may be behind (--consistency=stale)."`
}
