package fsm

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Policy is every cluster-wide setting. It is replicated, changed only by
// PolicySet and validated as a whole.
type Policy struct {
	Beat             time.Duration
	SuspectBeats     int
	Investigate      time.Duration
	Lease            time.Duration
	WatchdogBound    time.Duration
	Takeover         time.Duration
	AcceptSoft       bool
	BrakeMin         int
	BrakePercent     int
	BrakeExpiry      time.Duration
	FenceTimeout     time.Duration
	FenceRetry       time.Duration
	FenceCheckEvery  time.Duration
	FenceCheckMaxAge time.Duration
	AgentStopGrace   time.Duration
	NodeDownAfter    time.Duration
	StartTimeout     time.Duration
	StopGrace        time.Duration
	StartsPerHost    int
	StartsPerCluster int
	RetryMin         time.Duration
	RetryMax         time.Duration
	MaxRestart       int
	MaxRelocate      int
	StorageLossAfter time.Duration
	ProtectDefault   bool
	PlaceUnfenced    bool
	Placement        string
	EventsKeep       int
	WorkKeep         int
	AlertsKeep       int
	UnknownOperator  Role
	CertValidity     time.Duration
	DeadNodeCleanup  time.Duration

	// Of level 4. Over-commit is in hundredths; of CPUs 0 = they are not counted.
	CPUOvercommit      int
	MemoryOvercommit   int
	ReservedCPUs       int
	ReservedMemory     uint64 // bytes of each host
	MigrateTimeout     time.Duration
	MovesPerHost       int
	MovesPerCluster    int
	ShutdownPolicy     string
	Rebalance          bool
	RebalanceThreshold int // percent
	RebalanceHold      time.Duration
	RebalanceGain      int // percent
	UsageVMs           bool
	UsageAccount       string
	UsageWindow        string
	UsageTimezone      string
	UsageFrom          string
	UsageGrace         time.Duration
	UsageKeep          time.Duration

	AlertsOpenMax      int
	AlertsArchiveAfter time.Duration
	AlertsKeepFor      time.Duration
	NotifyKeep         int
	NotifyGather       time.Duration
	NotifyDigestAbove  int
	NotifyTimeout      time.Duration
	NotifyRetryMax     time.Duration
	NotifyGiveUp       time.Duration

	N1Hosts     int // that may fail at once
	N1Domains   bool
	N1Admission bool

	RecoveryObjective time.Duration

	GuestWindow time.Duration
}

// leaseDrift is the clock drift allowed between agent and leader (S13).
const leaseDrift = 100 // one part in

// DefaultPolicy is what a new cluster starts with.
func DefaultPolicy() *Policy {
	return &Policy{
		Beat:             time.Second,
		SuspectBeats:     3,
		Investigate:      2 * time.Second,
		Lease:            12 * time.Second,
		WatchdogBound:    5 * time.Second,
		Takeover:         18 * time.Second,
		BrakeMin:         3,
		BrakePercent:     20,
		FenceTimeout:     10 * time.Second,
		FenceRetry:       10 * time.Second,
		FenceCheckEvery:  time.Hour,
		FenceCheckMaxAge: 24 * time.Hour,
		AgentStopGrace:   time.Minute,
		NodeDownAfter:    3 * time.Second,
		StartTimeout:     2 * time.Minute,
		StopGrace:        time.Minute,
		StartsPerHost:    4,
		StartsPerCluster: 100,
		RetryMin:         2 * time.Second,
		RetryMax:         5 * time.Minute,
		MaxRestart:       1,
		MaxRelocate:      1,
		StorageLossAfter: time.Minute,
		Placement:        "count",
		EventsKeep:       20000,
		WorkKeep:         5000,
		AlertsKeep:       5000,
		UnknownOperator:  RoleAdmin,
		CertValidity:     90 * 24 * time.Hour,
		MemoryOvercommit: 100,

		MigrateTimeout:     10 * time.Minute,
		MovesPerHost:       2,
		MovesPerCluster:    20,
		ShutdownPolicy:     ShutdownConditional,
		RebalanceThreshold: 30,
		RebalanceHold:      time.Minute,
		RebalanceGain:      10,

		UsageAccount:  "default",
		UsageWindow:   "day",
		UsageTimezone: "UTC",
		UsageGrace:    15 * time.Minute,
		UsageKeep:     100 * 24 * time.Hour,

		N1Hosts:            1,
		AlertsOpenMax:      20000,
		AlertsArchiveAfter: 7 * 24 * time.Hour,
		AlertsKeepFor:      90 * 24 * time.Hour,
		NotifyKeep:         10000,
		NotifyGather:       time.Second,
		NotifyDigestAbove:  10,
		NotifyTimeout:      10 * time.Second,
		NotifyRetryMax:     5 * time.Minute,
		NotifyGiveUp:       24 * time.Hour,

		GuestWindow: time.Hour,
	}
}

// SuspectAfter is the silence after which a host is suspect.
func (p *Policy) SuspectAfter() time.Duration { return time.Duration(p.SuspectBeats) * p.Beat }

// ProvesDeath reports whether a lease kept by this kind of watchdog is proof
// of death when it has run out (S12).
func (p *Policy) ProvesDeath(w Watchdog) bool {
	return w == WatchdogHardware || w == WatchdogExternal || w == WatchdogSoft && p.AcceptSoft
}

// PolicySetting is one key of the policy.
type PolicySetting struct {
	Key string
	Doc string
	// Level is the feature level from which on it can be set; below it counts as
	// it is by default.
	Level uint32
	get   func(*Policy) string
	set   func(*Policy, string) error
}

// Get returns the key's value in p.
func (s PolicySetting) Get(p *Policy) string { return s.get(p) }

// PolicySettings lists every key with its meaning, in the order they are shown.
func PolicySettings() []PolicySetting {
	dur := func(key string, f func(*Policy) *time.Duration, lo, hi time.Duration, doc string) PolicySetting {
		return PolicySetting{key, doc, 1,
			func(p *Policy) string { return f(p).String() },
			func(p *Policy, v string) error {
				d, err := time.ParseDuration(v)
				if err != nil {
					return fmt.Errorf("%s: %q is not a duration; write for example 10s or 2m", key, v)
				}
				if d < lo || d > hi {
					return fmt.Errorf("%s: %s is out of range; it must be between %s and %s", key, d, lo, hi)
				}
				*f(p) = d
				return nil
			}}
	}
	num := func(key string, f func(*Policy) *int, lo, hi int, doc string) PolicySetting {
		return PolicySetting{key, doc, 1,
			func(p *Policy) string { return strconv.Itoa(*f(p)) },
			func(p *Policy, v string) error {
				n, err := strconv.Atoi(v)
				if err != nil || n < lo || n > hi {
					return fmt.Errorf("%s: %q must be a whole number between %d and %d", key, v, lo, hi)
				}
				*f(p) = n
				return nil
			}}
	}
	flag := func(key string, f func(*Policy) *bool, doc string) PolicySetting {
		return PolicySetting{key, doc, 1,
			func(p *Policy) string { return strconv.FormatBool(*f(p)) },
			func(p *Policy, v string) error {
				b, err := strconv.ParseBool(v)
				if err != nil {
					return fmt.Errorf("%s: %q must be true or false", key, v)
				}
				*f(p) = b
				return nil
			}}
	}
	// share is a percentage, which may be written 30, 30% or 0.3.
	share := func(key string, f func(*Policy) *int, lo, hi int, doc string) PolicySetting {
		return PolicySetting{key, doc, LevelPolicy,
			func(p *Policy) string { return strconv.Itoa(*f(p)) + "%" },
			func(p *Policy, v string) error {
				x, err := strconv.ParseFloat(strings.TrimSuffix(v, "%"), 64)
				if strings.Contains(v, ".") && !strings.HasSuffix(v, "%") {
					x *= 100
				}
				if n := int(math.Round(x)); err == nil && x >= float64(lo) && x <= float64(hi) {
					*f(p) = n
					return nil
				}
				return fmt.Errorf("%s: %q must be a share between %d%% and %d%%", key, v, lo, hi)
			}}
	}
	const ms, day = time.Millisecond, 24 * time.Hour
	return []PolicySetting{
		dur("beat", func(p *Policy) *time.Duration { return &p.Beat }, 100*ms, time.Minute, "how often an agent reports"),
		num("suspect_beats", func(p *Policy) *int { return &p.SuspectBeats }, 2, 100, "beats missed before a host is suspect"),
		dur("investigate", func(p *Policy) *time.Duration { return &p.Investigate }, 100*ms, time.Minute, "how long evidence is gathered before a suspect host is declared down"),
		dur("lease", func(p *Policy) *time.Duration { return &p.Lease }, time.Second, time.Hour, "self-fence lease: an agent that cannot renew it for this long stops its protected VMs"),
		dur("watchdog_bound", func(p *Policy) *time.Duration { return &p.WatchdogBound }, 0, time.Hour, "longest time a watchdog may take after the lease ran out; agents that declare more get no lease"),
		dur("takeover", func(p *Policy) *time.Duration { return &p.Takeover }, time.Second, 2*time.Hour, "wait after the last renewal before a lease counts as proof; must exceed lease + watchdog_bound + 1 %"),
		flag("accept_soft_watchdog", func(p *Policy) *bool { return &p.AcceptSoft }, "accept a lease without a watchdog as proof; a frozen host may then run a VM twice"),
		num("brake_min", func(p *Policy) *int { return &p.BrakeMin }, 1, 100000, "hosts that may go silent together before active fencing is held back"),
		num("brake_percent", func(p *Policy) *int { return &p.BrakePercent }, 0, 100, "the same as a share of the failure domain; the larger of both counts"),
		dur("brake_expiry", func(p *Policy) *time.Duration { return &p.BrakeExpiry }, 0, 30*day, "how long the brake holds before it lets go of one host at a time, at most brake_min of them in this time; 0: it never does by itself"),
		dur("fence_timeout", func(p *Policy) *time.Duration { return &p.FenceTimeout }, time.Second, time.Hour, "deadline of one fence attempt"),
		dur("fence_retry", func(p *Policy) *time.Duration { return &p.FenceRetry }, time.Second, time.Hour, "pause after all levels have failed"),
		dur("fence_check_every", func(p *Policy) *time.Duration { return &p.FenceCheckEvery }, 0, 30*day, "how often the fence levels of an Up host are tried without harm; 0 = never"),
		dur("fence_check_max_age", func(p *Policy) *time.Duration { return &p.FenceCheckMaxAge }, time.Minute, 365*day, "a host of whose active fence levels none has been proven for this long gets an alert; must exceed fence_check_every"),
		dur("agent_stop_grace", func(p *Policy) *time.Duration { return &p.AgentStopGrace }, 0, day, "how long a cleanly stopped agent may stay away before its host is treated as silent"),
		dur("node_down_after", func(p *Policy) *time.Duration { return &p.NodeDownAfter }, 500*ms, time.Minute, "silence after which a management node is Down"),
		dur("start_timeout", func(p *Policy) *time.Duration { return &p.StartTimeout }, time.Second, day, "how long a start order may stand before it is withdrawn and the VM is started elsewhere"),
		dur("stop_grace", func(p *Policy) *time.Duration { return &p.StopGrace }, 0, day, "how long a guest may take to shut down before it is destroyed"),
		num("starts_per_host", func(p *Policy) *int { return &p.StartsPerHost }, 1, 10000, "start orders standing on one host at a time"),
		num("starts_per_cluster", func(p *Policy) *int { return &p.StartsPerCluster }, 1, 1000000, "start orders standing in the cluster at a time"),
		dur("retry_min", func(p *Policy) *time.Duration { return &p.RetryMin }, 100*ms, time.Hour, "pause after the first failed start; doubles with each further one"),
		dur("retry_max", func(p *Policy) *time.Duration { return &p.RetryMax }, time.Second, day, "longest pause between starts"),
		num("max_restart", func(p *Policy) *int { return &p.MaxRestart }, 0, 1000, "retries on one host after the first failed start"),
		num("max_relocate", func(p *Policy) *int { return &p.MaxRelocate }, 0, 1000, "other hosts tried after that, before the VM is in error"),
		dur("storage_loss_after", func(p *Policy) *time.Duration { return &p.StorageLossAfter }, time.Second, day, "how long a VM may be paused on an I/O error before it is restarted elsewhere"),
		flag("protect_default", func(p *Policy) *bool { return &p.ProtectDefault }, "protect every VM that has no word of its own"),
		flag("place_unfenced", func(p *Policy) *bool { return &p.PlaceUnfenced }, "start VMs on hosts that nothing could prove dead"),
		{"placement", "count: fewest VMs; spread: largest free share; pack: smallest free share that fits; load: the least load by several criteria, memory weighing more than CPU", 1,
			func(p *Policy) string { return p.Placement },
			func(p *Policy, v string) error {
				switch v {
				case "count", "spread", "pack", PlaceLoad:
					p.Placement = v
					return nil
				}
				return fmt.Errorf("placement: %q must be count, spread, pack or load", v)
			}},
		num("events_keep", func(p *Policy) *int { return &p.EventsKeep }, 100, 10000000, "events kept in the state"),
		num("work_keep", func(p *Policy) *int { return &p.WorkKeep }, 100, 10000000, "ended work items kept in the state"),
		num("alerts_keep", func(p *Policy) *int { return &p.AlertsKeep }, 100, 10000000, "resolved alerts kept in the state"),
		{"unknown_operator", "what an operator may do whose certificate is valid and to whom nobody has given a role: admin, operator, viewer or none", LevelJoin,
			func(p *Policy) string { return p.UnknownOperator.String() },
			func(p *Policy, v string) error {
				r, err := ParseRole(v)
				if err != nil {
					return fmt.Errorf("unknown_operator: %w", err)
				}
				p.UnknownOperator = r
				return nil
			}},
		from(LevelJoin, dur("certificate_validity", func(p *Policy) *time.Duration { return &p.CertValidity }, time.Hour, 3650*day, "how long a certificate lasts that the cluster signs; it is renewed after two thirds of that")),
		from(LevelJoin, dur("dead_node_cleanup", func(p *Policy) *time.Duration { return &p.DeadNodeCleanup }, 0, 365*day, "how long a management node is Down before it is removed, one at a time and never below three voters; 0 = never")),

		factor("cpu_overcommit", func(p *Policy) *int { return &p.CPUOvercommit }, 0, 100000, "virtual CPUs of VMs for one CPU of a host; 0: they are not counted"),
		factor("memory_overcommit", func(p *Policy) *int { return &p.MemoryOvercommit }, 10, 1000, "memory of VMs for the memory of a host"),
		from(LevelPolicy, num("reserved_cpus", func(p *Policy) *int { return &p.ReservedCPUs }, 0, 10000, "CPUs of each host that are no VM's")),
		size("reserved_memory", func(p *Policy) *uint64 { return &p.ReservedMemory }, "memory of each host that is no VM's"),
		from(LevelPolicy, dur("migrate_timeout", func(p *Policy) *time.Duration { return &p.MigrateTimeout }, 10*time.Second, day, "how long a live migration may take before it is called off; the VM runs on where it was")),
		from(LevelPolicy, num("moves_per_host", func(p *Policy) *int { return &p.MovesPerHost }, 1, 1000, "moves from or to one host at a time that lifeboat begins by itself")),
		from(LevelPolicy, num("moves_per_cluster", func(p *Policy) *int { return &p.MovesPerCluster }, 1, 100000, "the same in the whole cluster")),
		{"shutdown_policy", "what becomes of a host's VMs when its operating system goes down. conditional: they wait for a reboot and start elsewhere after a shutdown; freeze: they wait; failover: they start elsewhere; migrate: they are migrated away first", LevelPolicy,
			func(p *Policy) string { return p.ShutdownPolicy },
			func(p *Policy, v string) error {
				switch v {
				case ShutdownConditional, ShutdownFreeze, ShutdownFailover, ShutdownMigrate:
					p.ShutdownPolicy = v
					return nil
				}
				return fmt.Errorf("shutdown_policy: %q must be conditional, freeze, failover or migrate", v)
			}},
		from(LevelPolicy, flag("rebalance", func(p *Policy) *bool { return &p.Rebalance }, "migrate VMs from hosts that carry more than others, one at a time")),
		share("rebalance_threshold", func(p *Policy) *int { return &p.RebalanceThreshold }, 1, 1000, "imbalance above which a VM is moved: standard deviation of the hosts' loads by their mean; the load of a host is the mean of the shares of CPUs and memory that its VMs are configured for"),
		from(LevelPolicy, dur("rebalance_hold", func(p *Policy) *time.Duration { return &p.RebalanceHold }, 0, day, "how long the imbalance must last before a VM is moved")),
		share("rebalance_gain", func(p *Policy) *int { return &p.RebalanceGain }, 0, 100, "by how much of itself a move must reduce the imbalance"),
		from(LevelPolicy, flag("usage_vms", func(p *Policy) *bool { return &p.UsageVMs }, "count how long VMs exist and run (ALLOCATED_VM, RUNNING_VM); it makes reports of many changed VMs dearer")),
		{"usage_account", "to whom VMs are charged of which nobody says anything else: ACCOUNT or DOMAIN/ACCOUNT", LevelPolicy,
			func(p *Policy) string { return p.UsageAccount },
			func(p *Policy, v string) error {
				if o := ParseOwner(v); o.Account == "" || len(v) > maxUsageText {
					return fmt.Errorf("usage_account: %q names no account; write for example default or ROOT/default", v)
				}
				p.UsageAccount = v
				return nil
			}},
		{"usage_window", "usage is closed by the hour or by the day; a change counts from the end of the last closed window on", LevelPolicy,
			func(p *Policy) string { return p.UsageWindow },
			func(p *Policy, v string) error {
				if v != "hour" && v != "day" {
					return fmt.Errorf("usage_window: %q must be hour or day", v)
				}
				p.UsageWindow = v
				return nil
			}},
		{"usage_timezone", "time zone in which hours and days begin, for example UTC or Europe/Berlin", LevelPolicy,
			func(p *Policy) string { return p.UsageTimezone },
			func(p *Policy, v string) error {
				if !zoneName(v) {
					return fmt.Errorf("usage_timezone: %q is no name of a time zone; write for example UTC or Europe/Berlin", v)
				}
				p.UsageTimezone = v
				return nil
			}},
		{"usage_from", "the first window begins at or before this time, for example 2026-01-01T00:00:00Z; - = the earliest event told before the first window is closed, as far back as usage is kept. It counts until the first window is closed", LevelPolicy,
			func(p *Policy) string { return cmp.Or(p.UsageFrom, "-") },
			func(p *Policy, v string) error {
				if v == "-" {
					p.UsageFrom = ""
					return nil
				}
				if _, err := time.Parse(time.RFC3339, v); err != nil {
					return fmt.Errorf("usage_from: %q is no time; write for example 2026-01-01T00:00:00Z", v)
				}
				p.UsageFrom = v
				return nil
			}},
		from(LevelPolicy, dur("usage_grace", func(p *Policy) *time.Duration { return &p.UsageGrace }, 0, day, "how long after its end a window is closed; what is told later is a correction")),
		from(LevelPolicy, dur("usage_keep", func(p *Policy) *time.Duration { return &p.UsageKeep }, day, 3650*day, "how long closed usage is kept; export it before")),
		from(LevelPolicy, num("alerts_open_max", func(p *Policy) *int { return &p.AlertsOpenMax }, 100, 1000000, "open alerts kept; what is raised beyond is counted by one alert")),
		from(LevelPolicy, dur("alerts_archive_after", func(p *Policy) *time.Duration { return &p.AlertsArchiveAfter }, 0, 3650*day, "how long after it was resolved an alert is archived: until then the same failure re-opens it; 0 = never")),
		from(LevelPolicy, dur("alerts_keep_for", func(p *Policy) *time.Duration { return &p.AlertsKeepFor }, 0, 3650*day, "how long alerts that are over are kept; 0 = as long as alerts_keep allows")),
		from(LevelPolicy, num("notify_keep", func(p *Policy) *int { return &p.NotifyKeep }, 100, 1000000, "notices kept for receivers that have not got them yet")),
		from(LevelPolicy, dur("notify_gather", func(p *Policy) *time.Duration { return &p.NotifyGather }, 0, time.Hour, "how long a notification waits for others to go with it")),
		from(LevelPolicy, num("notify_digest_above", func(p *Policy) *int { return &p.NotifyDigestAbove }, 1, 10000, "more notices than this at once become one digest")),
		from(LevelPolicy, dur("notify_timeout", func(p *Policy) *time.Duration { return &p.NotifyTimeout }, 100*ms, 10*time.Minute, "how long one attempt to deliver may take")),
		from(LevelPolicy, dur("notify_retry_max", func(p *Policy) *time.Duration { return &p.NotifyRetryMax }, time.Second, day, "longest pause between two attempts; the first is 2s, and it doubles")),
		from(LevelPolicy, dur("notify_give_up", func(p *Policy) *time.Duration { return &p.NotifyGiveUp }, 0, 365*day, "how long a delivery is tried before it is given up; 0 = for ever")),
		from(LevelPolicy, num("n1_hosts", func(p *Policy) *int { return &p.N1Hosts }, 1, 3, "the N+1 proof is also about any so many hosts that fail at once: N+2, N+3")),
		from(LevelPolicy, flag("n1_domains", func(p *Policy) *bool { return &p.N1Domains }, "the N+1 proof is also about the failure of all hosts with the same label rack at once")),
		from(LevelPolicy, flag("n1_admission", func(p *Policy) *bool { return &p.N1Admission }, "refuse a start, a rule or a maintenance after which a failure that the cluster stands today, of those that n1_hosts and n1_domains name, would leave a VM down")),
		from(LevelPolicy, dur("recovery_objective", func(p *Policy) *time.Duration { return &p.RecoveryObjective }, 0, day, "how long after a host died its protected VMs may be ordered to start at the latest; what cannot keep it is refused; 0 = none")),
		from(LevelPolicy, dur("guest_window", func(p *Policy) *time.Duration { return &p.GuestWindow }, time.Minute, 30*day, "restarts of a VM because its guest hangs that follow one another within this time count together against max_restart and max_relocate")),
	}
}

// PlaceLoad is the value of placement that came with LevelPolicy.
const PlaceLoad = "load"

func from(level uint32, s PolicySetting) PolicySetting {
	s.Level = level
	return s
}

// With returns a copy of p with the settings applied, valid as a whole, or an
// error that says which setting is wrong and why.
func (p *Policy) With(settings []Setting) (*Policy, error) {
	q := *p
	known := PolicySettings()
next:
	for _, s := range settings {
		for _, k := range known {
			if k.Key == s.Key {
				if err := k.set(&q, s.Value); err != nil {
					return nil, err
				}
				continue next
			}
		}
		return nil, fmt.Errorf("%s is not a policy key; `lifeboat policy list` shows them", s.Key)
	}
	return &q, q.validate()
}

// Settings writes the whole policy, as builds of a feature level know it: a key that
// is newer than the level of the cluster is neither set, nor in the digest, nor in a
// snapshot.
func (p *Policy) Settings(level uint32) []Setting {
	var out []Setting
	for _, k := range PolicySettings() {
		if k.Level <= max(level, 1) {
			out = append(out, Setting{k.Key, k.get(p)})
		}
	}
	return out
}

func (p *Policy) validate() error {
	victim := p.Lease + p.WatchdogBound
	victim += victim / leaseDrift
	switch {
	case p.Takeover <= victim:
		return fmt.Errorf("takeover: %s is too short; a host may run its VMs for lease + watchdog_bound + 1 %% = %s after its last renewal, and the cluster must wait longer than that", p.Takeover, victim)
	case p.Lease < 4*p.Beat:
		return fmt.Errorf("lease: %s is shorter than four beats (%s); a single lost report would stop VMs", p.Lease, 4*p.Beat)
	case p.FenceCheckMaxAge <= p.FenceCheckEvery:
		return fmt.Errorf("fence_check_max_age: %s is not longer than fence_check_every (%s); every host would be in alert between two checks", p.FenceCheckMaxAge, p.FenceCheckEvery)
	case p.RetryMax < p.RetryMin:
		return fmt.Errorf("retry_max: %s is shorter than retry_min (%s)", p.RetryMax, p.RetryMin)
	}
	return nil
}

// notifyBackoff is the pause after a number of failed attempts to deliver.
func (p *Policy) notifyBackoff(attempts uint32) time.Duration {
	d := 2 * time.Second
	for i := uint32(1); i < attempts && d < p.NotifyRetryMax; i++ {
		d *= 2
	}
	return min(d, p.NotifyRetryMax)
}

// Backoff is the pause before start number attempt+1.
func (p *Policy) Backoff(attempt uint32) time.Duration {
	d := p.RetryMin
	for i := uint32(1); i < attempt && d < p.RetryMax; i++ {
		d *= 2
	}
	return min(d, p.RetryMax)
}

// zoneName reports whether s looks like the name of a time zone. Which ones there are
// only builds know, each its own: the leader refuses what it does not know.
func zoneName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '/' && c != '_' && c != '-' && c != '+' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}
