package ha

import (
	"math"
	"testing"
)

func TestImbalance(t *testing.T) {
	for _, c := range []struct {
		loads []float64
		want  float64
	}{
		{nil, 0}, {[]float64{0, 0}, 0}, {[]float64{0.5, 0.5, 0.5}, 0}, {[]float64{1, 0}, 1}, {[]float64{0.3, 0.1}, 0.5},
	} {
		if got := Imbalance(c.loads); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v: %v, want %v", c.loads, got, c.want)
		}
	}
	if got := HostLoad(32, 64, 64<<30, 256<<30); math.Abs(got-0.375) > 1e-9 {
		t.Errorf("half of the CPUs and a quarter of the memory: %v", got)
	}
}
