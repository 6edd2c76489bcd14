package ipmi

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/fence"
	"lifeboat/fence/fencetest"
)

func TestParsePower(t *testing.T) {
	for in, want := range map[string]fence.PowerState{
		"Chassis Power is on\n":                        fence.On,
		"Chassis Power is off\n":                       fence.Off,
		"warning\r\nChassis Power is off\r\n":          fence.Off,
		"Chassis Power is off\nChassis Power is on\n":  fence.Unknown,
		"Chassis Power is on\nChassis Power is off\n":  fence.Unknown,
		"Chassis Power is unknown\n":                   fence.Unknown,
		"Chassis Power Control: Down/Off\n":            fence.Unknown,
		"not Chassis Power is off\n":                   fence.Unknown,
		"Unable to get Chassis Power Status\n":         fence.Unknown,
		"":                                             fence.Unknown,
		"Chassis Power is off (or so it seems to be)":  fence.Unknown,
		"Last Power Event : command\nPower is off\n\n": fence.Unknown,
	} {
		if got := parsePower(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestParseGUID(t *testing.T) {
	for in, want := range map[string]string{
		"System GUID   : 88776655-4433-2211-efcd-ab8967452301\nGUID Encoding : IPMI\nGUID Version  : DCE Security with POSIX UIDs (not for IPMI)\n": "88776655-4433-2211-efcd-ab8967452301",
		"System GUID   : 67452301-AB89-efcd-1122-334455667788\nGUID Version  : Unknown/unsupported (14)\n":                                          "67452301-ab89-efcd-1122-334455667788",
		"System GUID   : 0123456789ABCDEF1122334455667788\n":                                                                                        "0123456789abcdef1122334455667788",
		"System GUID  : e53d9c7c-616d-38db-9dc2-26837ee0ec20\nTimestamp    : 12/29/1905 05:47:24\n":                                                 "e53d9c7c-616d-38db-9dc2-26837ee0ec20",
		"System GUID   : e53d9c7c-616d\n":                        "",
		"System GUID   : xyzd9c7c-616d-38db-9dc2-26837ee0ec20\n": "",
		"Invalid data length received: 3\n":                      "",
		"":                                                       "",
	} {
		if got, ok := parseGUID(in); got != want || ok != (want != "") {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestParseSerial(t *testing.T) {
	const fru = " Chassis Type          : Rack Mount Chassis\n Chassis Serial        : CH-1\n Board Serial          : BD-1\n Product Manufacturer  : X\n Product Serial        : %\n"
	for product, want := range map[string]string{"PR-1": "PR-1", "": "CH-1", "To be filled by O.E.M.": "CH-1", "00000000": "CH-1"} {
		if got, _ := parseSerial(strings.ReplaceAll(fru, "%", product)); got != want {
			t.Errorf("product serial %q: %q, want %q", product, got, want)
		}
	}
	if got, ok := parseSerial("FRU Device Description : Builtin FRU Device (ID 0)\n"); ok {
		t.Error(got)
	}
}

func TestClassify(t *testing.T) {
	const noise = "Loading IANA PEN Registry...\nRunning Get VSO Capabilities my_addr 0x20, transit 0, target 0x20\nInvalid completion code received: Invalid command\nDiscovered IPMB address 0x0\n"
	const noSession = "Error: Unable to establish IPMI v2 / RMCP+ session\n"
	for in, want := range map[string]fence.Reason{
		"> RAKP 2 HMAC is invalid\n" + noSession:                                               fence.AuthFailed,
		"RAKP 2 message indicates an error : unauthorized name\n" + noSession:                  fence.AuthFailed,
		"RAKP 2 message indicates an error : insufficient resources for session\n" + noSession: fence.Unreachable,
		"Error in open session response message : invalid authentication algorithm\n\n":        fence.Refused,
		"Unsupported cipher suite ID : 99\n\n" + noSession:                                     fence.Refused,
		"Get Auth Capabilities error\nError issuing Get Channel Authentication Capabilities\n": fence.Unreachable,
		"Address lookup for nosuch.invalid failed\nCould not open socket!\n" + noSession:       fence.Unreachable,
		noise + "Set Chassis Power Control to Down/Off failed: Unspecified error\n":            fence.Refused,
		noise + "Set Chassis Power Control to Down/Off failed: Insufficient privilege level\n": fence.AuthFailed,
		noise + "Unable to get Chassis Power Status\nIPMI Request Match NOT FOUND\n":           fence.Unreachable,
		"": fence.Unreachable,
	} {
		if err := classify("", in); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, change := range map[string]func(*fence.Target){
		"no address":     func(t *fence.Target) { t.Address = "" },
		"an option":      func(t *fence.Target) { t.Address = "-f/etc/shadow" },
		"no user":        func(t *fence.Target) { t.User = "" },
		"no password":    func(t *fence.Target) { t.Password = fence.Secret{} },
		"long password":  func(t *fence.Target) { t.Password = fence.NewSecret("012345678901234567890") },
		"NUL":            func(t *fence.Target) { t.Password = fence.NewSecret("a\x00b") },
		"cipher 0":       func(t *fence.Target) { t.Options = map[string]string{"cipher": "0"} },
		"cipher name":    func(t *fence.Target) { t.Options = map[string]string{"cipher": "aes"} },
		"privilege":      func(t *fence.Target) { t.Options = map[string]string{"privilege": "user"} },
		"identity":       func(t *fence.Target) { t.Options = map[string]string{"identity": "name"} },
		"unknown option": func(t *fence.Target) { t.Options = map[string]string{"chiper": "3"} },
	} {
		target := fence.Target{Driver: Name, Address: "bmc1", User: "admin", Password: fence.NewSecret("pw")}
		change(&target)
		if _, err := fence.NewRegistry(Kind()).Open(target); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

// A stand-in for ipmitool that notes its command line: needs no lab.
func TestThePasswordIsNotOnTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "ipmitool")
	text := "#!/bin/sh\nprintf '%s ' \"$0\" \"$@\" >'" + dir + "/args'\n[ \"$IPMI_PASSWORD\" = 'open-barley' ] && echo 'Chassis Power is off'\n" +
		"printf 'Set failed: open-barley\\n' >&2\n[ $# -gt 0 ] && case \"$*\" in *status) exit 0;; esac; exit 1\n"
	fencetest.Program(t, program, text)
	d, err := open(fence.Target{Driver: Name, Address: "bmc1", User: "admin", Password: fence.NewSecret("open-barley"), Options: map[string]string{"program": program}})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := d.Power(t.Context()); s != fence.Off || err != nil {
		t.Fatal(s, err)
	}
	args, err := os.ReadFile(filepath.Join(dir, "args"))
	if err != nil || strings.Contains(string(args), "open-barley") || !strings.Contains(string(args), "-C 3") {
		t.Fatalf("%s %v", args, err)
	}
	if err := d.Off(t.Context()); err == nil || strings.Contains(err.Error(), "open-barley") {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("System GUID   : 88776655-4433-2211-efcd-ab8967452301\n", "RAKP 2 HMAC is invalid")
	f.Add("Chassis Power is off\n", "Unspecified error")
	f.Add(" Product Serial        : PR-1\n", "")
	f.Fuzz(func(t *testing.T, out, errout string) {
		if parsePower(out) == fence.Off && !strings.Contains(out, "Chassis Power is off") {
			t.Fatal("off from nothing")
		}
		if g, ok := parseGUID(out); ok && len(strings.ReplaceAll(g, "-", "")) != 32 {
			t.Fatal(g)
		}
		if s, ok := parseSerial(out); ok && !fence.UsableIdentity(s) {
			t.Fatal(s)
		}
		err := classify(out, errout)
		if r := fence.Reason(""); !errors.As(err, &r) || strings.ContainsAny(err.Error(), "\r\n") {
			t.Fatal(err)
		}
	})
}
