package probe

// historyMax is how many verdicts are kept of one endpoint: enough to see a pattern, and with the reasons
// some 3 KiB each at 10,000 endpoints.
const historyMax = 32

// Health is what a row of verdicts makes of an endpoint: Fall failures in a row make it sick, Rise successes
// in a row make it healthy, and the very first verdict decides at once in either direction. It is a pure state
// machine and belongs to one goroutine at a time. The zero value knows nothing and takes every
// verdict at its word.
type Health struct {
	Rise int // successes in a row that make a sick endpoint healthy; below 1 counts as 1
	Fall int // failures in a row that make a healthy endpoint sick; below 1 counts as 1

	known  bool
	up     bool
	row    int       // verdicts in a row that speak against up
	past   []Verdict // ring once it is full
	oldest int
}

// Step takes one verdict in and says whether Up or Known changed by it. A void verdict is kept in the history
// and changes nothing.
func (h *Health) Step(v Verdict) (changed bool) {
	h.keep(v)
	switch {
	case v.Void:
		return false
	case !h.known:
		h.known, h.up, h.row = true, v.Healthy, 0
		return true
	case v.Healthy == h.up:
		h.row = 0
		return false
	}
	h.row++
	need := max(h.Rise, 1)
	if h.up {
		need = max(h.Fall, 1)
	}
	if h.row < need {
		return false
	}
	h.up, h.row = v.Healthy, 0
	return true
}

// Up says whether the endpoint is healthy. It is false before the first verdict.
func (h *Health) Up() bool { return h.up }

// Known says whether a verdict was there at all.
func (h *Health) Known() bool { return h.known }

// History returns the last 32 verdicts, oldest first, in a slice of the caller's own.
func (h *Health) History() []Verdict {
	out := make([]Verdict, 0, len(h.past))
	out = append(out, h.past[h.oldest:]...)
	return append(out, h.past[:h.oldest]...)
}

func (h *Health) keep(v Verdict) {
	if len(h.past) < historyMax {
		h.past = append(h.past, v)
		return
	}
	h.past[h.oldest] = v
	h.oldest = (h.oldest + 1) % historyMax
}
