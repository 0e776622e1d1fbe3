package limit

import "testing"

// BenchmarkGrow is the longest that a request waits for the growth of its shard.
func BenchmarkGrow(b *testing.B) {
	table := newTable(1_000_000)
	most := int(table.most.Load())
	full := shard{}
	for i := uint64(0); len(full.lines) < most*2/3; i++ {
		*full.place(mixed(i), second, most) = 2 * second
	}
	for i := uint64(1 << 40); full.used < keysPerShard*8/10; i++ {
		*full.place(mixed(i), second, most) = 2 * second
	}
	for b.Loop() {
		s := shard{lines: full.lines, used: full.used}
		if !s.grow(second, most) {
			b.Fatal("it did not grow")
		}
	}
	b.ReportMetric(float64(full.used), "keys")
}
