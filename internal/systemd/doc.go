// Package systemd tells the service manager how a process fares, by the sd_notify
// protocol: READY=1 once it answers, WATCHDOG=1 while it is well, STOPPING=1 when
// its stop begins, and a line of status for "systemctl status".
//
// Whether the process is well is not decided here: server and agent say so, each
// from its own loops. Where no service manager asked to be told, there is no
// notifier and nothing is sent. The command line makes it.
package systemd
