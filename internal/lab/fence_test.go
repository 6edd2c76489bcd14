package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"lifeboat/fence"
	"lifeboat/fence/ipmi"
)

// fenceEnv makes this test binary fence a host: the driver runs ipmitool as its
// child, so both have to be in the manager's network.
const fenceEnv = "LAB_TEST_FENCE"

// fenceMain prints the proof, or the error.
func fenceMain(request string) {
	var address, identity string
	var limit time.Duration
	fmt.Sscan(request, &address, &identity, (*int64)(&limit))
	d, err := fence.NewRegistry(ipmi.Kind()).Open(fence.Target{
		Driver: ipmi.Name, Address: address, User: BMCUser, Password: fence.NewSecret(BMCPassword),
		Options: map[string]string{"program": tool("ipmitool")},
	})
	var proof fence.Proof
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		proof, err = fence.Fence(ctx, d, fence.Expect{Identity: identity}, nil)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(proof); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

func fenceFromManager(t *testing.T, l *Lab, host int, identity string, limit time.Duration) (proof fence.Proof, said string, err error) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", fenceEnv, l.BMCAddr(host), identity, limit))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, l.RunInManager(1, cmd))
	if err = cmd.Wait(); err == nil {
		must(t, json.Unmarshal([]byte(out.String()), &proof))
	}
	return proof, strings.TrimSpace(out.String()), err
}

// S9: lifeboat's own fencing gets proof from the lab's BMCs, and only of what
// is true.
func TestS9FencingProvesPowerOff(t *testing.T) {
	l := theLab(t)
	boot := l.BootID(2)
	if _, said, err := fenceFromManager(t, l, 2, l.BMCGUID(1), 20*time.Second); err == nil || l.BootID(2) != boot {
		t.Fatalf("fenced through the BMC of another machine: %s", said)
	}
	must(t, l.BMCLie(2))
	if _, said, err := fenceFromManager(t, l, 2, l.BMCGUID(2), 8*time.Second); err == nil || l.BootID(2) != boot {
		t.Fatalf("believed a BMC that does nothing: %s", said)
	} else {
		t.Logf("the lying BMC: %s", said)
	}
	must(t, l.BMCHeal(2))
	proof, said, err := fenceFromManager(t, l, 2, l.BMCGUID(2), 30*time.Second)
	if err != nil || proof.Check() != nil || proof.AlreadyOff || l.Powered(2) {
		t.Fatalf("no proof, powered %t: %v: %s", l.Powered(2), err, said)
	}
	if proof, said, err = fenceFromManager(t, l, 2, l.BMCGUID(2), 30*time.Second); err != nil || !proof.AlreadyOff {
		t.Errorf("a machine that is off already: %v: %s", err, said)
	}
	bootHost(t, l, 2)
}
