package exchange

import "time"

// Refusal is how a stage says no, and how an engine reports what it could not do. One writer in
// package proxy turns it into an answer. Stages keep their refusals ready made: a refusal is
// shared by many exchanges and never changed.
type Refusal struct {
	Stage      string        // which stage said no
	Reason     string        // stable word for metrics, logs and clients, of a closed set
	Status     int           // HTTP status
	Detail     string        // one sentence for the client, without inner detail; empty: made from the status
	RetryAfter time.Duration // 0: no Retry-After
	Close      bool          // the connection ends after the answer
}

// Error lets a refusal travel as an error.
func (r *Refusal) Error() string { return r.Stage + " refused: " + r.Reason }
