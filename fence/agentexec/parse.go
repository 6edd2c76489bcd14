package agentexec

import (
	"strings"

	"lifeboat/fence"
	"lifeboat/fence/internal/child"
)

// readStatus reads the answer of action=status: the exit code, unless the
// program's own words say otherwise.
func readStatus(r child.Result) (fence.PowerState, error) {
	var state fence.PowerState
	switch r.Code {
	case 0:
		state = fence.On
	case 2:
		state = fence.Off
	default:
		return fence.Unknown, classify("status", r)
	}
	for line := range strings.Lines(r.Stdout) {
		key, value, found := strings.Cut(line, ":")
		if !found || !strings.EqualFold(strings.TrimSpace(key), "status") {
			continue
		}
		if !strings.EqualFold(strings.TrimSpace(value), string(state)) {
			return fence.Unknown, nil
		}
	}
	return state, nil
}

// classify turns a failed run into a reason, by the messages of the
// fence-agents library; every failure of theirs exits with 1.
func classify(action string, r child.Result) error {
	said := failure(r.Stderr)
	all := strings.ToLower(r.Stderr)
	reason := fence.Refused
	switch {
	case has(all, "unable to connect/login"):
		// One message for both. Unreachable, as that is tried again: a device may
		// drop a connection while it switches.
		reason = fence.Unreachable
	case has(all, "login denied", "authentication fail", "access denied", "permission denied", "unauthorized", "invalid credentials", "401 "):
		reason = fence.AuthFailed
	case has(all, "timed out waiting to power"):
		// It was reached; the outlet did not follow.
	case has(all, "connection lost", "timed out", "connection refused", "no route to host", "unreachable", "could not resolve", "name or service not known"):
		reason = fence.Unreachable
	}
	if said == "" {
		return fence.Because(reason, "action %s exits with %d", action, r.Code)
	}
	return fence.Because(reason, "action %s: %s", action, said)
}

func has(text string, words ...string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// failure is the last line a program said, without the time stamp and level
// that the fence-agents library puts before it.
func failure(stderr string) string {
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	if _, message, found := strings.Cut(last, "ERROR: "); found {
		return message
	}
	return last
}
