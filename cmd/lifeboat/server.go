package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-metrics"
	metricsprom "github.com/hashicorp/go-metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"

	"lifeboat/fence"
	"lifeboat/fence/agentexec"
	"lifeboat/fence/ipmi"
	"lifeboat/fence/redfish"
	"lifeboat/internal/cli"
	"lifeboat/internal/configfile"
	"lifeboat/internal/systemd"
	"lifeboat/node"
	"lifeboat/notify"
	"lifeboat/notify/alertmanager"
	"lifeboat/notify/mail"
	"lifeboat/notify/program"
	"lifeboat/notify/webhook"
	"lifeboat/transport"
)

// ServerCmd is 'lifeboat server'.
type ServerCmd struct {
	Run     ServerRunCmd     `cmd:"" default:"withargs" help:"Run a management node. This is what 'lifeboat server' alone does."`
	Init    ServerInitCmd    `cmd:"" help:"Make this machine the first node of a new cluster."`
	Join    ServerJoinCmd    `cmd:"" help:"Make this machine a node of a cluster, by a token."`
	Recover ServerRecoverCmd `cmd:"" help:"Go on with what one node has, when the majority of the nodes is lost for ever."`
}

// ServerRunCmd is 'lifeboat server run'.
type ServerRunCmd struct {
	Config string `required:"" short:"c" placeholder:"FILE" help:"YAML configuration of this node; see lifeboat config default server."`
	Check  bool   `help:"Do what lifeboat config check does, and stop."`
}

// serverGarbage is how much garbage a node lets come together, in percent of what it
// holds. The state of a million VMs is a GiB that hardly changes: to wait until there
// is as much again would double what the process has resident.
const serverGarbage = 50

// Run is a management node until a signal ends it.
func (c *ServerRunCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	if c.Check {
		check := ConfigCheckCmd{File: c.Config, Kind: string(configfile.Server)}
		return check.Run(ctx, env, g)
	}
	cfg, err := node.LoadConfig(c.Config)
	if err != nil {
		return cli.Usage("", "%w", err)
	}
	log := newLogger(env.Stderr, "lifeboat", cfg.Log.Level, cfg.Log.Format)
	creds, err := transport.LoadCredentials(transport.Files{Cert: cfg.Cert, Key: cfg.Key, CA: cfg.CA}, log.Named("tls"))
	if err != nil {
		return cli.Usage("", "%w", err)
	}
	if _, chosen := env.LookupEnv("GOGC"); !chosen {
		debug.SetGCPercent(serverGarbage)
	}
	registry := prometheus.NewRegistry()
	if err := raftMetrics(registry); err != nil {
		return err
	}
	deps := node.Deps{Log: log, Creds: creds, Fences: fences(), Notifiers: notifiers(), Version: env.Build.Version, Registry: registry, Hurry: cli.Hurry(ctx)}
	told, err := systemd.New(log.Named("systemd"))
	if err != nil {
		return cli.Usage("", "%w", err)
	}
	if told != nil { // not an interface that holds a nil
		deps.Supervisor = told
	}
	return node.Run(ctx, cfg, deps)
}

// raftMetrics points the metrics of Raft and its store to a registry. They have
// one global sink in a process.
func raftMetrics(registry *prometheus.Registry) error {
	sink, err := metricsprom.NewPrometheusSinkFrom(metricsprom.PrometheusOpts{Registerer: registry, Expiration: time.Minute, Name: "raft"})
	if err != nil {
		return fmt.Errorf("collect raft metrics: %w", err)
	}
	conf := metrics.DefaultConfig("")
	conf.EnableHostname, conf.EnableRuntimeMetrics = false, false
	if _, err := metrics.NewGlobal(conf, sink); err != nil {
		return fmt.Errorf("collect raft metrics: %w", err)
	}
	return nil
}

// fences are the power controllers this program can talk to.
func fences() fence.Registry {
	return fence.NewRegistry(ipmi.Kind(), redfish.Kind(), agentexec.Kind())
}

// notifiers are the ways in which this program can tell people of alerts.
func notifiers() notify.Registry {
	return notify.NewRegistry(webhook.Kind(), mail.Kind(), alertmanager.Kind(), program.Kind(program.Dir))
}
