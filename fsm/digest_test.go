package fsm

import (
	"bytes"
	"reflect"
	"testing"
)

// VMs are written down by hand for the digest: a field that is forgotten there
// could differ between replicas without anybody seeing it.
func TestDigestCoversEveryFieldOfAVM(t *testing.T) {
	one := uint32(1)
	values := map[string]any{
		"ID": VMID{1}, "Name": "a", "Error": "a", "Spec": &Spec{Shape: &Shape{}}, "Policy": &VMPolicy{},
		"MaxRestart": &one, "MaxRelocate": &one, "Shape": &Shape{sum: 1}, "Hash": [32]byte{1},
		"packed": joined([]byte("a"), "b"), "home": homeAt("h1"),
		"Order": &StartOrder{}, "DependsOn": []VMID{{1}}, "Guest": &GuestHealth{},
		"Hangs": &Hangs{}, "Tried": []Tried{{"h1", 1}},
	}
	differs := func(name string, field reflect.Value, v *VM) {
		before := appendVM(nil, v)
		switch x, ok := values[name]; {
		case ok:
			reflect.NewAt(field.Type(), field.Addr().UnsafePointer()).Elem().Set(reflect.ValueOf(x))
		case field.Kind() == reflect.Bool:
			field.SetBool(true)
		case field.Kind() == reflect.String:
			field.SetString("a")
		case field.CanInt():
			field.SetInt(1)
		default:
			field.SetUint(1)
		}
		if bytes.Equal(before, appendVM(nil, v)) {
			t.Errorf("%s makes no difference", name)
		}
	}
	for f := range reflect.TypeFor[VM]().Fields() {
		if v := (&VM{traits: &traits{}}); !f.Anonymous && f.IsExported() { // the others repeat traits
			differs(f.Name, reflect.ValueOf(v).Elem().FieldByName(f.Name), v)
		}
	}
	for f := range reflect.TypeFor[traits]().Fields() {
		v := &VM{traits: &traits{}}
		differs(f.Name, reflect.ValueOf(v.traits).Elem().FieldByName(f.Name), v)
	}
	for f := range reflect.TypeFor[VMPolicy]().Fields() {
		v := &VM{traits: &traits{Policy: &VMPolicy{}}}
		differs(f.Name, reflect.ValueOf(v.Policy).Elem().FieldByName(f.Name), v)
	}
	for f := range reflect.TypeFor[StartOrder]().Fields() {
		v := &VM{traits: &traits{Policy: &VMPolicy{Order: &StartOrder{}}}}
		differs(f.Name, reflect.ValueOf(v.Policy.Order).Elem().FieldByName(f.Name), v)
	}
	for f := range reflect.TypeFor[GuestHealth]().Fields() {
		v := &VM{traits: &traits{Policy: &VMPolicy{Guest: &GuestHealth{}}}}
		differs(f.Name, reflect.ValueOf(v.Policy.Guest).Elem().FieldByName(f.Name), v)
	}
	for f := range reflect.TypeFor[Hangs]().Fields() {
		v := &VM{traits: &traits{Hangs: &Hangs{}}}
		differs(f.Name, reflect.ValueOf(v.Hangs).Elem().FieldByName(f.Name), v)
	}
	for f := range reflect.TypeFor[Spec]().Fields() {
		v := &VM{traits: &traits{Spec: &Spec{Shape: &Shape{}}}}
		differs(f.Name, reflect.ValueOf(v.Spec).Elem().FieldByName(f.Name), v)
	}
}
