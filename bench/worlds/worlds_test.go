package worlds

import "testing"

// TestUnevenEndpoints: where one endpoint takes twenty times as long as another, what is inside the slow one is for long what came before a dip. Taken for what the
// dip shows, it made work seem four times as long as it is, for good, and half of what could be answered in time was not.
func TestUnevenEndpoints(t *testing.T) {
	for _, s := range situations() {
		if s.name != "2x" && s.name != "5x" {
			continue
		}
		for seed := range uint64(3) {
			if share, _ := s.uneven(seed, 3, fixed); share < 0.8 {
				t.Errorf("%s, seed %d: %.2f of the good answers of a gate that is told the truth, want 0.8", s.name, seed, share)
			}
		}
	}
}
