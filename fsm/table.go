package fsm

import (
	"iter"

	"github.com/tidwall/btree"
)

// table is an ordered copy-on-write map. A clone costs one allocation and
// shares every node until one side writes. The writer's table remembers which
// keys it has touched, for the rolling digest; clones that were published do
// not.
type table[K comparable, V any] struct {
	tree  *btree.BTreeG[item[K, V]]
	dirty map[K]struct{}
}

type item[K comparable, V any] struct {
	key K
	val V
}

func newTable[K comparable, V any](less func(a, b K) bool) table[K, V] {
	return table[K, V]{tree: btree.NewBTreeGOptions(func(a, b item[K, V]) bool {
		return less(a.key, b.key)
	}, btree.Options{NoLocks: true})}
}

// clone returns a table that can be written without changing t.
func (t table[K, V]) clone() table[K, V] {
	return table[K, V]{tree: t.tree.Copy(), dirty: t.dirty}
}

// track makes t remember touched keys from now on.
func (t *table[K, V]) track() { t.dirty = make(map[K]struct{}) }

func (t table[K, V]) get(k K) (V, bool) {
	it, ok := t.tree.Get(item[K, V]{key: k})
	return it.val, ok
}

func (t table[K, V]) set(k K, v V) {
	t.tree.Set(item[K, V]{k, v})
	if t.dirty != nil {
		t.dirty[k] = struct{}{}
	}
}

func (t table[K, V]) delete(k K) {
	t.tree.Delete(item[K, V]{key: k})
	if t.dirty != nil {
		t.dirty[k] = struct{}{}
	}
}

func (t table[K, V]) len() int { return t.tree.Len() }

// all walks the records in key order.
func (t table[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		t.tree.Scan(func(it item[K, V]) bool { return yield(it.key, it.val) })
	}
}

// from walks the records with keys >= k in key order.
func (t table[K, V]) from(k K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		t.tree.Ascend(item[K, V]{key: k}, func(it item[K, V]) bool { return yield(it.key, it.val) })
	}
}

// down walks the records from the last key to the first.
func (t table[K, V]) down() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		t.tree.Reverse(func(it item[K, V]) bool { return yield(it.key, it.val) })
	}
}

func (t table[K, V]) min() (K, V, bool) {
	it, ok := t.tree.Min()
	return it.key, it.val, ok
}
