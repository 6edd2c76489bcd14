// Package docstest executes docs/operations.md: every command in it, in order, on
// the machine that its prompt names, and compares what is printed with what the
// document says is printed.
//
// # The document
//
// Commands stand in fenced blocks of the kind "console". A line that begins with
// a prompt, "n1# " as root or "you$ " as a person, is a command; it goes on in the
// next line after a backslash, and up to its end word with <<'END'. What follows
// up to the next prompt is the output, line by line:
//
//   - no output in the document: any will do, as long as the exit code is 0;
//   - a line "..." stands for any number of lines, "..." in a line for any text;
//   - runs of blanks count as one, since the widths of tables vary; empty lines do not count;
//   - $NAME stands for one word. What it was is handed to all later commands, on all
//     machines, as the variable NAME: a person copies it.
//
// Three remarks can stand in the source, alone in a line before a block:
//
//	<!-- test: until 60s -->         the last command is repeated until its output is this
//	<!-- test: exit 1 -->            the last command ends with this exit code
//	<!-- test: not run: REASON -->   the block is shown only; the test lists it at its end
//
// # The machines
//
// Each is a copy of this machine's file system under a systemd of its own, in
// systemd-nspawn, with an address in a network that exists for the test only, a
// directory /srv/vms that all of them share as they would an NFS mount, and a BMC:
// ipmi_sim, which boots it and takes its power away. libvirt and qemu are real and
// emulate the guests.
//
// Everything lives in one PID, mount and network namespace. When the test ends,
// however it ends, the kernel removes all of it.
package docstest
