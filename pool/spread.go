package pool

// tier is the capacity, in weights, of one priority.
type tier struct {
	total, healthy           float64
	localTotal, localHealthy float64 // the part of it in this node's zone
}

// share is the healthy part of the capacity; 0 without capacity.
func (t tier) share() float64 {
	if t.total == 0 {
		return 0
	}
	return t.healthy / t.total
}

// spill says which part of the traffic each priority gets; the parts add up to 1, or to 0 when nothing is healthy.
// A tier keeps everything while its healthy share times over is 1 or more; what it cannot carry goes to the next ones by
// their own measure. When all of them together cannot carry everything, they share it in the same proportion.
// This is Envoy's rule for priority levels (overprovisioning factor 140%).
func spill(tiers []tier, over float64) []float64 {
	out := make([]float64, len(tiers))
	sum := 0.0
	for i, t := range tiers {
		out[i] = min(1, t.share()*over)
		sum += out[i]
	}
	if sum == 0 {
		return out
	}
	rest := 1.0
	for i := range out {
		out[i] = min(rest, out[i]/min(sum, 1))
		rest = max(rest-out[i], 0)
	}
	return out
}

// carries says whether the tiers together can take everything by the rule of spill.
func carries(tiers []tier, over float64) bool {
	sum := 0.0
	for _, t := range tiers {
		sum += min(1, t.share()*over)
	}
	return sum >= 1-1e-9
}

// local says which part of a tier's traffic stays in the node's own zone: all of it while the zone's
// healthy share times over is 1 or more, and else as much as the zone can carry. The rest goes to the other zones, if
// they can take any.
func local(t tier, over float64) float64 {
	switch {
	case t.localHealthy <= 0:
		return 0
	case t.healthy-t.localHealthy <= 0:
		return 1
	}
	return min(1, t.localHealthy/t.localTotal*over)
}
