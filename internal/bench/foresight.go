package main

import "context"

func (b *bench) foresight(ctx context.Context) error {
	f, err := b.goBench(ctx, "./ha/foresee", "^BenchmarkProof", "100x")
	if err != nil {
		return err
	}
	b.add(atMost("N+1 proof, 1,000 hosts × 100 VMs, from scratch", f["ProofFromScratch"]["ns/op"]/1e9, "s", 1),
		atMost("  after one change of a VM, a host or a rule", f["ProofAfterChange"]["ms/change"], "ms", 20),
		info("  the longest of them", f["ProofAfterChange"]["ms-longest"], "ms"),
		info("  the same with any two hosts (n1_hosts 2)", f["ProofOfTwoAfterChange"]["ms/change"], "ms"))
	return nil
}

func (b *bench) storm100(ctx context.Context) error {
	f, err := b.goBench(ctx, "./ha/foresee", "^BenchmarkHundredDie$", "1x")
	if err != nil {
		return err
	}
	d := f["HundredDie"]
	b.add(atMost("100 of 10,000 hosts die with 100 VMs each: all decisions until they run again", d["s-deciding"], "s", 2),
		atMost("  the longest of them", d["ms-longest"], "ms", 50),
		info("  decisions", d["passes"], ""))
	return nil
}

// budget is in the world's time: no machine makes it faster or slower.
func (b *bench) budget(ctx context.Context) error {
	f, err := b.goBench(ctx, "./sim", "^BenchmarkRestarts$", "1x")
	if err != nil {
		return err
	}
	took, bound := f["Restarts"]["s-world"], f["Restarts"]["s-bound"]
	r := atMost("1,000 VMs restart on 50 hosts that start 4 at a time in 2 s", took, "s", 1.2*bound)
	r.Baseline, r.Ratio, r.Target = bound, took/bound, "ratio ≤ 1.2"
	b.add(r)
	return nil
}
