package main

import "context"

func (b *bench) simulator(ctx context.Context) error {
	f, err := b.goBench(ctx, "./sim", "^BenchmarkLarge$", "1x")
	if err != nil {
		return err
	}
	b.add(atMost("simulator: 10,000 hosts × 100 VMs, one hour, 1 % failing", f["Large"]["s/hour"], "s", 120))
	return nil
}
