package fsm

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"lifeboat/fsm/logpb"
)

// What is packed comes out again, byte for byte, and VMs of one kind share a
// shape.
func TestSpecKeepsDefinitionAndPaths(t *testing.T) {
	x := newShapes()
	const id, other = "0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.OneOf(rapid.SampledFrom([]string{"/", "/srv/vms/", id, other, "0F8FAD5B-D9CB-469F-A165-70867728950E", "-0.qcow2", "123456", ""}), rapid.String())
		p := &logpb.Spec{Definition: rapid.SliceOf(rapid.Byte()).Draw(t, "definition")}
		for range rapid.IntRange(0, 4).Draw(t, "disks") {
			p.Disks = append(p.Disks, &logpb.Disk{Path: part.Draw(t, "a") + part.Draw(t, "b") + part.Draw(t, "c") + part.Draw(t, "d"), Storage: "s"})
		}
		s := specFromLog(x, p, 1)
		if s.Defines() != (len(p.Definition) > 0) || string(s.Definition()) != string(p.Definition) {
			t.Fatalf("definition %q came back as %q", p.Definition, s.Definition())
		}
		for _, s := range []*Spec{s, s.undefined()} {
			disks := s.Disks()
			if len(disks) != len(p.Disks) {
				t.Fatalf("%d of %d disks came back", len(disks), len(p.Disks))
			}
			for i, d := range disks {
				if d.Path != p.Disks[i].Path {
					t.Fatalf("path %q came back as %q", p.Disks[i].Path, d.Path)
				}
			}
		}
	})
	of := func(uuid string) *Shape {
		return specFromLog(x, &logpb.Spec{Disks: []*logpb.Disk{{Path: "/srv/vms/" + uuid + "-0.qcow2"}, {Path: "/srv/vms/" + uuid + "-1.qcow2"}}}, 1).Shape
	}
	if of(id) != of(other) {
		t.Error("VMs that differ in their ids alone do not share a shape")
	}
}

// What a start needs and what a running VM has open may differ; both are kept, also
// by a snapshot.
func TestS6OpenDisks(t *testing.T) {
	p := &logpb.Spec{Disks: []*logpb.Disk{{Path: "/vms/a"}, {Path: "/vms/new", Only: uint32(DiskDefined)}, {Path: "/vms/old", Only: uint32(DiskOpen)}, {Path: "/vms/base", Readonly: true, Backing: true, Only: uint32(DiskOpen)}}}
	for range 2 {
		s := specFromLog(newShapes(), p, 1)
		var defined, open []string
		for _, d := range s.Disks() {
			defined = append(defined, d.Path)
		}
		for _, d := range s.Open() {
			open = append(open, d.Path)
		}
		if !slices.Equal(defined, []string{"/vms/a", "/vms/new"}) || !slices.Equal(open, []string{"/vms/a", "/vms/old", "/vms/base"}) || !s.Open()[2].Backing {
			t.Errorf("defined %q, open %q", defined, open)
		}
		p = specToLog(s)
	}
}
