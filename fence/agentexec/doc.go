// Package agentexec is the fence driver for the hundred devices of the
// fence-agents project: it runs any fence_* program by their convention
// (key=value lines on stdin; action=off, on, status, monitor; exit codes).
//
// Convention: `status` exits with 0 for on and 2 for off, anything else is an
// error. An exit code of 2 is also what a shell gives for a syntax error and
// many interpreters for a missing file, so off is believed only when `monitor`,
// asked right before by the same program with the same settings, succeeded and
// `status` did not contradict itself on stdout.
//
// Identity: the convention has no way to ask which machine a plug feeds. The
// operator states it in option "identity" and, having pulled that plug or
// compared the labels, says so with identity_checked=by-hand; without that the
// driver has no identity and hence can prove nothing (S9).
//
// The password is written to the program's stdin, never to its command line or
// environment. The manager's wiring is the only caller.
package agentexec
