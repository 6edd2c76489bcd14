package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// What a peer and we are asked about: the cluster of BenchmarkFail, of which one host dies.
const (
	peerHosts = 32
	peerVMs   = 40 // on each
	peerDead  = 7
)

// parts that need a peer's program on this machine.
func (b *bench) peerParts() []part { return []part{{"plan, beside crm_simulate", b.crmSimulate}} }

// crmSimulate has Pacemaker's scheduler plan the death of a host of 32 that run 40 VMs
// each, and sets what it takes beside `lifeboat plan --fail`. It is given a file: it asks
// no cluster that might run here.
func (b *bench) crmSimulate(ctx context.Context) error {
	program, err := exec.LookPath("crm_simulate")
	if err != nil {
		b.add(result{Name: "plan: one of 32 hosts × 40 VMs dies", Unit: "ms", Target: "≥ 1,000", Note: "not measured here: install crm_simulate (Debian: pacemaker-cli-utils)"})
		return nil
	}
	f, err := b.goBench(ctx, "./ha/foresee", "^BenchmarkFail$", "200x")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lifeboat-bench-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "cib.xml")
	if err := os.WriteFile(file, cib(), 0o600); err != nil {
		return fmt.Errorf("write the peer's cluster: %w", err)
	}
	ours := f["Fail"]["ns/op"] / 1e6
	for _, how := range []string{"--run", "--simulate"} {
		took, rss, err := simulateCIB(ctx, program, file, how)
		if err != nil {
			return err
		}
		theirs := float64(took.Microseconds()) / 1000
		b.add(result{Name: "plan: one of 32 hosts × 40 VMs dies, beside crm_simulate " + how, Value: ours, Unit: "ms", Baseline: theirs, Ratio: ours / theirs},
			atLeast("  ours is so many times as fast as "+how, theirs/ours, "", 1000),
			info("  memory of crm_simulate "+how+" at most", float64(rss)/(1<<20), "MiB"))
	}
	b.add(info("  memory that our plan allocates, all in all", f["Fail"]["B/op"]/(1<<20), "MiB"))
	return nil
}

// simulateCIB runs the peer once, and looks whether it moves all VMs of the dead host.
func simulateCIB(ctx context.Context, program, file, how string) (took time.Duration, rss int64, err error) {
	cmd := exec.CommandContext(ctx, program, "--xml-file", file, how)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, 0, fmt.Errorf("run %s: %w\n%s", strings.Join(cmd.Args, " "), err, lastLines(out.Bytes(), 5))
	}
	took = time.Since(began)
	leaves := regexp.MustCompile(fmt.Sprintf(`(?m)^ +\* +Move +vm\d+ +\( +h%d +->`, peerDead))
	if n := len(leaves.FindAll(out.Bytes(), -1)); n != peerVMs {
		return 0, 0, fmt.Errorf("crm_simulate moves %d of the %d VMs of the dead host", n, peerVMs)
	}
	use, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, 0, errors.New("this system does not say how much memory crm_simulate used")
	}
	return took, use.Maxrss << 10, nil
}

// cib is the cluster as Pacemaker keeps it: hosts with room, VMs with sizes, and what each
// host has said about each VM, as after a probe. One host has been lost, and is to be
// fenced.
func cib() []byte {
	var b bytes.Buffer
	b.WriteString(`<cib crm_feature_set="3.15.0" validate-with="pacemaker-3.7" epoch="1" num_updates="0" admin_epoch="0" have-quorum="1" dc-uuid="1"><configuration>` +
		`<crm_config><cluster_property_set id="o"><nvpair id="o1" name="stonith-enabled" value="true"/><nvpair id="o2" name="placement-strategy" value="balanced"/></cluster_property_set></crm_config><nodes>`)
	for h := 1; h <= peerHosts; h++ {
		fmt.Fprintf(&b, `<node id="%d" uname="h%d"><utilization id="u%d"><nvpair id="u%dm" name="memory" value="524288"/><nvpair id="u%dc" name="cpu" value="256"/></utilization></node>`, h, h, h, h, h)
	}
	b.WriteString(`</nodes><resources><primitive id="fence" class="stonith" type="fence_ipmilan"/>`)
	for v := 1; v <= peerHosts*peerVMs; v++ {
		fmt.Fprintf(&b, `<primitive id="vm%d" class="ocf" provider="heartbeat" type="VirtualDomain"><utilization id="w%d"><nvpair id="w%dm" name="memory" value="4096"/><nvpair id="w%dc" name="cpu" value="2"/></utilization></primitive>`, v, v, v, v)
	}
	b.WriteString(`</resources><constraints/><rsc_defaults><meta_attributes id="d"><nvpair id="d1" name="resource-stickiness" value="1000"/></meta_attributes></rsc_defaults></configuration><status>`)
	for h := 1; h <= peerHosts; h++ {
		in, crmd, join := "true", "online", "member"
		if h == peerDead {
			in, crmd, join = "false", "offline", "down"
		}
		fmt.Fprintf(&b, `<node_state id="%d" uname="h%d" in_ccm="%s" crmd="%s" join="%s" expected="member"><lrm id="%d"><lrm_resources>`, h, h, in, crmd, join, h)
		if h == 1 {
			said(&b, "fence", `class="stonith" type="fence_ipmilan"`, h, 1, true)
		}
		for v := 1; v <= peerHosts*peerVMs; v++ {
			said(&b, fmt.Sprintf("vm%d", v), `class="ocf" provider="heartbeat" type="VirtualDomain"`, h, v+1, v%peerHosts+1 == h)
		}
		b.WriteString(`</lrm_resources></lrm></node_state>`)
	}
	b.WriteString(`</status></cib>`)
	return b.Bytes()
}

// said is what a host has said about a resource: it runs there, or a probe did not find it.
func said(b *bytes.Buffer, id, class string, host, call int, runs bool) {
	what, rc := "monitor", 7
	if runs {
		what, rc = "start", 0
	}
	transition := fmt.Sprintf("%d:1:%d:11111111-1111-1111-1111-111111111111", call, rc)
	fmt.Fprintf(b, `<lrm_resource id="%s" %s><lrm_rsc_op id="%s_last_0" operation_key="%s_%s_0" operation="%s" crm_feature_set="3.15.0" transition-key="%s" transition-magic="0:%d;%s" on_node="h%d" call-id="%d" rc-code="%d" op-status="0" interval="0" last-rc-change="1700000000" exec-time="1" queue-time="0" op-digest="f2317cad3d54cec5d7d7aa7d0bf35cf8"/></lrm_resource>`,
		id, class, id, id, what, what, transition, rc, transition, host, call, rc)
}
