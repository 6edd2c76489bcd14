package fsm

import (
	"reflect"
	"testing"
)

// A fork shares no table with the state that it was made of: whoever goes on from it
// would write into a table that others read.
func TestForkSharesNoTable(t *testing.T) {
	s := newState()
	tables := 0
	var compare func(path string, a, b reflect.Value)
	compare = func(path string, a, b reflect.Value) {
		for i := range a.NumField() {
			x, y, name := a.Field(i), b.Field(i), path+a.Type().Field(i).Name
			if x.Kind() != reflect.Struct {
				continue
			}
			if tree := x.FieldByName("tree"); tree.IsValid() {
				tables++
				if tree.Pointer() == y.FieldByName("tree").Pointer() {
					t.Errorf("the table %s is shared", name)
				}
				continue
			}
			compare(name+".", x, y)
		}
	}
	compare("", reflect.ValueOf(*s), reflect.ValueOf(*s.Fork()))
	if tables < 15 {
		t.Fatalf("only %d tables were compared", tables)
	}
}
