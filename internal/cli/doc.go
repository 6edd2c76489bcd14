// Package cli is what the commands of the lifeboat program share: where the
// cluster is and how to log in to it (context.go), calls that fail over from
// one management node to the next without ever sending a write twice
// (client.go), output as table, JSON or YAML (output.go, table.go, watch.go),
// errors with exit codes (errors.go), and shell completion.
//
// The contract:
//
//   - A command gets everything of the process through [Env]; nothing here reads
//     os.Args, os.Stdin or the environment by itself, so that commands run
//     inside tests.
//   - Every error that reaches the user is one line: what, why, what to do, and
//     its exit code says who has to act (docs/cli.md).
//   - Text from the cluster is never written raw to a terminal: names come from
//     libvirt, and a VM may be called anything.
//
// Only cmd/lifeboat may import it.
package cli
