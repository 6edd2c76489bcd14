// Command lifeboat is everything of Lifeboat in one program: the management
// node, the agent, a cluster to play with, and the command line for people.
//
// There is one file per command group. A command is a struct that kong fills
// and whose Run method gets the process through *cli.Env, so that tests run
// commands without a process; commands.go lists them all. What commands share
// is in internal/cli. docs/cli.md is the contract with scripts: output formats
// and exit codes.
package main
