package facts

import (
	"cmp"
	"slices"
	"time"
)

// Status is what the store knows of its sources.
type Status struct {
	Tokens    []TokenStatus    `json:"tokens,omitempty"`
	Databases []DatabaseStatus `json:"databases,omitempty"`
	// NoPlace counts tokens that were not checked because too many others were.
	NoPlace uint64 `json:"no_place"`
}

// TokenStatus is one source of tokens since the start.
type TokenStatus struct {
	Claim   string    `json:"claim"`
	From    string    `json:"from"` // where its keys come from
	Keys    int       `json:"keys"`
	Fresh   time.Time `json:"fresh"`           // when the keys were last known to be these
	Wrong   string    `json:"wrong,omitempty"` // why they could not be read since
	Known   uint64    `json:"known"`           // tokens that were remembered
	Good    uint64    `json:"good"`            // tokens that were checked and hold
	Bad     uint64    `json:"bad"`             // and those that do not
	Skipped uint64    `json:"skipped"`         // tokens that were not checked: no keys, no place, or from a network that forges
}

// DatabaseStatus is one database of regions.
type DatabaseStatus struct {
	File  string    `json:"file"`
	Type  string    `json:"type"` // as it calls itself
	Built time.Time `json:"built"`
}

// Status tells of all sources, in a steady order. It may be called by any goroutine.
func (s *Store) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Status{NoPlace: s.checks.full.Load()}
	for cfg, v := range s.verifiers {
		t := TokenStatus{Claim: cfg.Claim, From: v.set.where, Known: v.known(), Good: v.good.Load(), Bad: v.bad.Load(), Skipped: v.skipped.Load()}
		if r := v.set.ring.Load(); r != nil {
			t.Keys = len(r.keys)
		}
		v.set.mu.Lock()
		t.Fresh, t.Wrong = v.set.fresh, v.set.wrong
		v.set.mu.Unlock()
		out.Tokens = append(out.Tokens, t)
	}
	for path, db := range s.databases {
		meta := db.countries.Load().reader.Metadata
		out.Databases = append(out.Databases, DatabaseStatus{File: path, Type: meta.DatabaseType, Built: time.Unix(int64(meta.BuildEpoch), 0).UTC()})
	}
	slices.SortFunc(out.Tokens, func(a, b TokenStatus) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Claim, b.Claim)) })
	slices.SortFunc(out.Databases, func(a, b DatabaseStatus) int { return cmp.Compare(a.File, b.File) })
	return out
}
