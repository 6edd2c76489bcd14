package node

import (
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"lifeboat/fsm"
	"lifeboat/ha"
)

// metrics of one node.
type metrics struct {
	registry *prometheus.Registry
	commit   prometheus.Histogram
	batch    prometheus.Histogram
	reports  prometheus.Counter
	changed  prometheus.Counter
	recovery *prometheus.HistogramVec // see measure
}

func newMetrics(n *Node) *metrics {
	r := n.deps.Registry
	if r == nil {
		r = prometheus.NewRegistry()
	}
	m := &metrics{registry: r,
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lifeboat_canary_commit_seconds", Help: "Time to commit the leader's canary entry.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lifeboat_report_batch_hosts", Help: "Hosts whose changes share one log entry.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12)}),
		reports:  prometheus.NewCounter(prometheus.CounterOpts{Name: "lifeboat_reports_total", Help: "Reports of agents that this node has absorbed as leader."}),
		changed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "lifeboat_reports_changed_total", Help: "Reports that said something new and led to a log entry."}),
		recovery: newRecoverySeconds(),
	}
	r.MustRegister(m.commit, m.batch, m.reports, m.changed, m.recovery, stateCollector{n},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// stateCollector counts what is in the state when it is asked.
type stateCollector struct{ n *Node }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("lifeboat_"+name, help, labels, nil)
}

// Describe sends nothing: the metrics depend on the state.
func (c stateCollector) Describe(chan<- *prometheus.Desc) {}

func (c stateCollector) Collect(out chan<- prometheus.Metric) {
	s := c.n.fsm.State()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	hosts := map[fsm.Status]int{}
	for st := fsm.Connecting; st <= fsm.Removed; st++ {
		hosts[st] = 0
	}
	vms, running := 0, 0
	for _, h := range s.Hosts() {
		hosts[h.Status]++
		for i := range h.VMs {
			v := &h.VMs[i]
			if v.Protected() {
				vms++
				if v.Power == fsm.PowerOn {
					running++
				}
			}
		}
	}
	for st, k := range hosts {
		gauge(desc("hosts", "Hosts by status.", "status"), float64(k), st.String())
	}
	nodes := map[fsm.NodeState]int{fsm.NodeUp: 0, fsm.NodeDown: 0}
	for _, x := range s.Nodes() {
		nodes[x.State]++
	}
	for st, k := range nodes {
		gauge(desc("nodes", "Management nodes by state.", "state"), float64(k), st.String())
	}
	gauge(desc("vms", "VMs known."), float64(s.CountVMs()))
	gauge(desc("vms_protected", "Protected VMs."), float64(vms))
	gauge(desc("vms_protected_running", "Protected VMs that run."), float64(running))
	gauge(desc("work_open", "Open HA work items."), float64(s.CountOpenWork()))
	gauge(desc("alerts_open", "Alerts that are not resolved."), float64(s.CountOpenAlerts()))
	notifyMetrics(s, out)
	tallies := s.UsageTallies()
	for _, t := range s.UsageTypes() {
		x := tallies[t.ID]
		gauge(desc("usage_open", "Resources that are charged now, by usage type.", "type"), float64(x.Open), t.Name)
		gauge(desc("usage_known", "Resources of which usage is kept, by usage type.", "type"), float64(x.Known), t.Name)
	}
	_, trouble := s.CountUsage()
	gauge(desc("usage_trouble", "Resources of which something was told that does not fit."), float64(trouble))
	gauge(desc("usage_closed_until_seconds", "End of the newest closed window, in Unix time; 0 when there is none."), float64(lastClosed(s)/int64(time.Second)))
	if o := c.n.foresight.kept.Load(); o != nil {
		unsafe, open, lost := o.Count()
		gauge(desc("n1_unsafe_hosts", "Hosts whose failure would leave protected VMs down; on the leader."), float64(unsafe))
		gauge(desc("n1_unproven_hosts", "Hosts of which nobody knows yet what their failure would leave down; on the leader."), float64(open))
		gauge(desc("n1_vms_at_risk", "Protected VMs that the failure of their host would leave down; on the leader."), float64(lost))
		sets, openSets := o.CountTogether()
		gauge(desc("n1_unsafe_sets", "Sets of n1_hosts hosts whose failure at once would leave VMs down that the failure of none of them alone does; on the leader."), float64(sets))
		gauge(desc("n1_unproven_sets", "Sets of n1_hosts hosts of which that is not known yet; on the leader."), float64(openSets))
	}
	power, lease := ha.WorstCase(s.Policy)
	worst := desc("recovery_worst_seconds", "From a host's death to the order that starts its VMs elsewhere, at the worst, by what proves the death.", "by")
	gauge(worst, power.Seconds(), "power")
	gauge(worst, lease.Seconds(), "lease")
	gauge(desc("recovery_objective_seconds", "The policy recovery_objective; 0 when none is declared."), s.Policy.RecoveryObjective.Seconds())
	gauge(desc("applied_index", "Last log index applied here."), float64(s.Index))
	gauge(desc("ha_armed", "1 when HA acts."), flag(s.Armed))
	gauge(desc("leader", "1 where this node leads and serves."), flag(c.n.term.Load() != nil))
	if c.n.joined.Load() {
		r := c.n.raft
		gauge(desc("raft_term", "Raft term."), float64(r.CurrentTerm()))
		gauge(desc("raft_is_leader", "1 where Raft considers this node the leader."), flag(r.State() == raft.Leader))
	}
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
