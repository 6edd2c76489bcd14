// Package lifeboatv1 is the API between agents, management nodes, people and
// programs: generated messages, and the names of headers. It is never the format of
// the log (that is fsm/logpb), so both can change on their own.
//
// Callers: node, agent, the command line, and programs of others.
package lifeboatv1
