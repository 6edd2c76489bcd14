package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
)

// notifyStatus says in a status how the receivers of notifications fare.
func notifyStatus(s *fsm.State, r *lifeboatv1.StatusResponse) {
	for _, x := range s.Receivers() {
		if !x.Off {
			r.Receivers++
		}
		if x.Failing != 0 {
			r.ReceiversFailing++
		}
		r.DeliveredUnixNs = max(r.DeliveredUnixNs, x.DeliveredAt)
	}
	r.NoticesWaiting = uint32(s.CountNotices())
}

// notifyMetrics says it of each receiver.
func notifyMetrics(s *fsm.State, out chan<- prometheus.Metric) {
	send := func(kind prometheus.ValueType, name, help string, v float64, receiver string) {
		out <- prometheus.MustNewConstMetric(desc("notify_"+name, help, "receiver"), kind, v, receiver)
	}
	waiting := s.NoticesWaiting()
	for name, r := range s.Receivers() {
		attempts := uint32(0)
		if r.Batch != nil {
			attempts = r.Batch.Attempts
		}
		send(prometheus.GaugeValue, "waiting", "Notices that a receiver has not got.", float64(waiting[name]), name)
		send(prometheus.GaugeValue, "failing", "1 while a receiver does not take what is sent to it.", flag(r.Failing != 0), name)
		send(prometheus.GaugeValue, "attempts_failed", "Attempts of the delivery under way that have failed.", float64(attempts), name)
		send(prometheus.GaugeValue, "last_delivery_seconds", "When a delivery arrived last, in Unix time; 0 when none did.", float64(r.DeliveredAt)/float64(time.Second), name)
		send(prometheus.CounterValue, "delivered_total", "Deliveries that have arrived.", float64(r.Delivered), name)
		send(prometheus.CounterValue, "lost_total", "Notices that were dropped or given up before they were delivered.", float64(r.Lost), name)
	}
}
