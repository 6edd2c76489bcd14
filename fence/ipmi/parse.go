package ipmi

import (
	"strings"

	"lifeboat/fence"
)

// parsePower reads the answer of `chassis power status`. Only the two plain
// answers count; everything else is unknown.
func parsePower(out string) fence.PowerState {
	state := fence.Unknown
	for line := range strings.Lines(out) {
		switch strings.TrimSpace(line) {
		case "Chassis Power is on":
			if state == fence.Off {
				return fence.Unknown
			}
			state = fence.On
		case "Chassis Power is off":
			if state == fence.On {
				return fence.Unknown
			}
			state = fence.Off
		}
	}
	return state
}

// parseGUID reads the answer of `mc guid`: "System GUID  : <uuid>" with dashes,
// or as 32 digits from `mc guid dump`. The lines after it (encoding, version,
// timestamp of older releases) are guesses of ipmitool and not needed:
// fence.SameIdentity knows every byte order.
func parseGUID(out string) (string, bool) {
	guid, ok := field(out, "System GUID")
	if !ok {
		return "", false
	}
	guid = strings.ToLower(guid)
	digits := strings.ReplaceAll(guid, "-", "")
	if len(digits) != 32 || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", false
	}
	return guid, true
}

// parseSerial reads the answer of `fru print 0`.
func parseSerial(out string) (string, bool) {
	for _, name := range []string{"Product Serial", "Chassis Serial"} {
		if serial, ok := field(out, name); ok && fence.UsableIdentity(serial) {
			return serial, true
		}
	}
	return "", false
}

// field finds the first line "name : value".
func field(out, name string) (string, bool) {
	for line := range strings.Lines(out) {
		key, value, found := strings.Cut(line, ":")
		if value = strings.TrimSpace(value); found && strings.TrimSpace(key) == name && value != "" {
			return value, true
		}
	}
	return "", false
}

// classify turns what ipmitool 1.8.19 says when it fails into a reason. It exits
// with 1 whatever happened, so its words are all there is.
func classify(stdout, stderr string) error {
	all := strings.ToLower(stderr + "\n" + stdout)
	for _, rule := range []struct {
		words  []string
		reason fence.Reason
		text   string
	}{
		{[]string{"hmac is invalid", "invalid integrity check value"}, fence.AuthFailed, "wrong password"},
		{[]string{"unauthorized name"}, fence.AuthFailed, "unknown user"},
		{[]string{"unauthorized role", "invalid role", "inactive role", "insufficient privilege"}, fence.AuthFailed, "the user lacks the privilege"},
		{[]string{"password is longer"}, fence.AuthFailed, "the password is too long for IPMI"},
		{[]string{"invalid authentication algorithm", "invalid integrity algorithm", "invalid confidentiality algorithm", "no matching cipher suite", "no cipher suite match", "unsupported cipher suite"},
			fence.Refused, "the BMC does not offer this cipher suite: set option cipher to another one, such as 3 or 17"},
		{[]string{"device not present"}, fence.IdentityUnknown, "it has no FRU to read a serial number from"},
		{[]string{"insufficient resources"}, fence.Unreachable, "the BMC has no free session"},
		{[]string{"address lookup for"}, fence.Unreachable, "its host name cannot be resolved"},
		{[]string{"get auth capabilities error", "could not open socket", "no response from remote controller"}, fence.Unreachable, "no answer over the network"},
	} {
		for _, w := range rule.words {
			if strings.Contains(all, w) {
				return fence.Because(rule.reason, "%s", rule.text)
			}
		}
	}
	last := lastLine(failures(stderr + "\n" + stdout))
	if strings.Contains(last, "failed: ") {
		// A completion code: the BMC heard the question and said no.
		return fence.Because(fence.Refused, "%s", last)
	}
	if last == "" {
		last = "ipmitool failed without a word"
	}
	return fence.Because(fence.Unreachable, "%s", last)
}

// failures drops the lines that -v adds and that are no failure.
func failures(out string) string {
	var keep []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch {
		case line == "", strings.HasPrefix(line, "Loading IANA"), strings.HasPrefix(line, "Running Get VSO"),
			strings.HasPrefix(line, "Invalid completion code received"), strings.HasPrefix(line, "Discovered IPMB"),
			strings.HasPrefix(line, "IPMI Request Match"), strings.HasPrefix(line, "Close Session"):
		default:
			keep = append(keep, line)
		}
	}
	return strings.Join(keep, "\n")
}

func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
