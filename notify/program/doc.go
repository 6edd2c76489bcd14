// Package program delivers messages by running a program of the node with the message
// as JSON on its input. There is no shell, and only what lies in one directory of the
// node can be run: who may set receivers may not run anything else.
package program
