package node

import "testing"

// TestPacerBoundsGarbage: what lives decides how much garbage there may be; small changes change nothing.
func TestPacerBoundsGarbage(t *testing.T) {
	var p pacer
	const mb = 1 << 20
	for _, one := range []struct {
		live uint64
		want int // 0: as before
	}{
		{0, 0}, {6 * mb, 0}, {8 * mb, 0}, {16 * mb, 200}, {17 * mb, 0}, {32 * mb, 100}, {1000 * mb, 50}, {2000 * mb, 0}, {6 * mb, 400}, {8 * mb, 0},
	} {
		if got := p.step(one.live); got != one.want {
			t.Errorf("%d MiB live: %d, want %d", one.live/mb, got, one.want)
		}
	}
}
