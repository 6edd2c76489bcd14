package dev

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "lifeboat/api/lifeboat/v1"
)

// check asks whether the cluster kept its promises. The error is for what
// could not be asked.
func (d *drill) check(ctx context.Context) error {
	j, err := readJournal(d.room.journal)
	if err != nil {
		return err
	}
	vms, err := d.room.cluster.vms(ctx)
	if err != nil {
		return err
	}
	work, err := d.room.cluster.work(ctx)
	if err != nil {
		return err
	}
	alerts, err := d.room.cluster.alerts(ctx)
	if err != nil {
		return err
	}
	deaths := d.room.Deaths()
	d.result("every protected VM runs, and where the cluster says", checkPlaces(d.room.guests, vms, j, deaths))
	d.result("each lost VM was started exactly once", d.checkStarts(j, deaths))
	d.result("no VM ever ran in two places", checkOverlaps(d.room.guests, j, deaths))
	d.result("one work item for each lost VM, and none is open", d.checkWork(work))
	d.result("no open alert is there twice, and those about dead hosts are resolved", d.checkAlerts(alerts))
	d.result("all replicas have the same digest", d.checkDigests(ctx))
	return nil
}

func (d *drill) result(promise string, problems []string) {
	if len(problems) == 0 {
		d.to.line(good, "  ok    %s", promise)
		return
	}
	d.to.line(bad, "  FAIL  %s: %s", promise, strings.Join(problems, "; "))
	d.broken = append(d.broken, "not true that "+promise)
}

// checkPlaces compares what the cluster believes with what happened.
func checkPlaces(guests []*guest, vms []*pb.VMView, j journal, deaths []Death) (problems []string) {
	for _, g := range guests {
		var views []*pb.VMView
		for _, v := range vms {
			if v.Id == g.id.String() {
				views = append(views, v)
			}
		}
		real, runs := j.where(g.id, deaths)
		switch {
		case len(views) != 1:
			problems = append(problems, fmt.Sprintf("%s has %d owners", g.name, len(views)))
		case !runs:
			problems = append(problems, g.name+" does not run")
		case !views[0].Protected || !running(views[0]):
			problems = append(problems, fmt.Sprintf("%s is %s to the cluster", g.name, views[0].Power))
		case views[0].Host != real.Host:
			problems = append(problems, fmt.Sprintf("%s runs on %s, the cluster says on %s", g.name, real.Host, views[0].Host))
		}
	}
	return problems
}

// checkStarts counts what was started after each fault.
func (d *drill) checkStarts(j journal, deaths []Death) (problems []string) {
	for i, r := range d.rounds {
		end := time.Now()
		if i+1 < len(d.rounds) {
			end = d.rounds[i+1].fault
		}
		for _, g := range d.room.guests {
			want := 0
			if slices.ContainsFunc(r.lost, func(l lostVM) bool { return l.guest == g }) {
				want = 1
			}
			have := 0
			for _, s := range j.stays(g.id, deaths) {
				if s.Begin.After(r.fault) && s.Begin.Before(end) {
					have++
				}
			}
			if have != want {
				problems = append(problems, fmt.Sprintf("%s was started %d times after the fault of round %d, not %d", g.name, have, i+1, want))
			}
		}
	}
	return problems
}

func checkOverlaps(guests []*guest, j journal, deaths []Death) (problems []string) {
	for _, g := range guests {
		if a, b, twice := overlap(j.stays(g.id, deaths)); twice {
			problems = append(problems, fmt.Sprintf("%s ran on %s from %s and on %s from %s", g.name, a.Host, clock(a.Begin), b.Host, clock(b.Begin)))
		}
	}
	return problems
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }

func (d *drill) checkWork(work []*pb.WorkView) (problems []string) {
	items := map[string]int{} // VM/lost host → items
	for _, w := range work {
		if w.EndedUnixNs == 0 {
			problems = append(problems, fmt.Sprintf("work %d for %s is %s", w.Id, w.VmName, w.Step))
		}
		items[w.VmName]++
	}
	for _, g := range d.room.guests {
		want := 0
		for _, r := range d.rounds {
			if slices.ContainsFunc(r.lost, func(l lostVM) bool { return l.guest == g }) {
				want++
			}
		}
		if items[g.name] != want {
			problems = append(problems, fmt.Sprintf("%s had %d work items, and was lost %d times", g.name, items[g.name], want))
		}
	}
	return problems
}

func (d *drill) checkAlerts(alerts []*pb.AlertView) (problems []string) {
	open := map[string]int{}
	down := map[string]int{}
	for _, a := range alerts {
		key := a.Type + " " + a.Subject + " " + a.Cause
		if a.ResolvedUnixNs == 0 {
			if open[key]++; open[key] == 2 {
				problems = append(problems, "two open alerts: "+key)
			}
		}
		if strings.EqualFold(a.Type, "host") && a.Cause == "down" {
			down[a.Subject]++
			if a.ResolvedUnixNs == 0 {
				problems = append(problems, "still open: "+a.Text)
			}
		}
		if strings.HasPrefix(a.Cause, "duplicate") {
			problems = append(problems, a.Text)
		}
	}
	for _, r := range d.rounds {
		for _, h := range r.hosts {
			if down[h] != 1 {
				problems = append(problems, fmt.Sprintf("%d alerts say that host %s is down, not 1", down[h], h))
			}
		}
	}
	return problems
}

// checkDigests compares the replicas at an index that all of them have shown.
func (d *drill) checkDigests(ctx context.Context) []string {
	ctx, cancel := context.WithTimeoutCause(ctx, agreeWithin, errors.New("time is up"))
	defer cancel()
	nodes := d.room.cluster.running()
	if len(nodes) < len(d.room.nodes) {
		return []string{fmt.Sprintf("only %s are running", strings.Join(nodes, ", "))}
	}
	seen := map[uint64]map[string]string{} // index → node → digest
	for {
		for _, name := range nodes {
			st, err := askNode(ctx, d.room.cluster, name, 0, api.Status, &pb.StatusRequest{Stale: true})
			if err != nil {
				continue
			}
			for _, g := range st.Digests {
				at := seen[g.Index]
				if at == nil {
					at = map[string]string{}
					seen[g.Index] = at
				}
				at[name] = g.Digest
				if len(at) == len(nodes) {
					return compareDigests(g.Index, at)
				}
			}
		}
		if !sleep(ctx, lookEvery) {
			return []string{fmt.Sprintf("%s did not show a digest at a common index within %s", strings.Join(nodes, ", "), agreeWithin)}
		}
	}
}

func compareDigests(index uint64, at map[string]string) []string {
	var different []string
	for name, digest := range at {
		different = append(different, name+" "+digest)
	}
	slices.Sort(different)
	for _, digest := range at {
		for _, other := range at {
			if digest != other {
				return []string{fmt.Sprintf("at index %d they are %s", index, strings.Join(different, ", "))}
			}
		}
	}
	return nil
}
