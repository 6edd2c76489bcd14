package lab

import (
	"encoding/json"
	"fmt"
	"os"
)

// The lab starts its own binary again in one of these modes.
const (
	modeEnv   = "LIFEBOAT_LAB_MODE"
	configEnv = "LIFEBOAT_LAB_CONFIG"

	modeHostInit = "host-init" // PID 1 of a host
	modeChassis  = "chassis"   // what ipmi_sim calls to read and switch power
	modeWatchdog = "watchdog"  // a host's watchdog timer
	modeReboot   = "reboot"    // a guarded reboot(2), for agents that fence themselves
)

// MaybeInit must be the first call of main (or of TestMain) in a program that
// uses the lab. It returns at once in an ordinary process. In a process that
// the lab started as a helper it does that helper's work and never returns.
func MaybeInit() {
	var err error
	switch mode := os.Getenv(modeEnv); mode {
	case "":
		return
	case modeHostInit:
		err = hostInitMain()
	case modeChassis:
		err = chassisMain(os.Getenv(configEnv), os.Args[1:], os.Stdout)
	case modeWatchdog:
		err = watchdogMain()
	case modeReboot:
		err = RebootSelf()
	default:
		err = fmt.Errorf("start lab helper: %s=%q is no mode of this binary; unset the variable", modeEnv, mode)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// helperEnv is the environment of a helper process. Helpers get nothing else of
// the caller's environment: a host does not inherit the shell of its operator.
func helperEnv(mode string, config any) ([]string, error) {
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("encode helper configuration: %w", err)
	}
	return append(baseEnv(), modeEnv+"="+mode, configEnv+"="+string(raw)), nil
}

func helperConfig(into any) error {
	if err := json.Unmarshal([]byte(os.Getenv(configEnv)), into); err != nil {
		return fmt.Errorf("read helper configuration: %w", err)
	}
	return nil
}

// baseEnv is what daemons inside a host see.
func baseEnv() []string {
	return []string{"PATH=" + systemPath, "HOME=/root", "LANG=C"}
}
