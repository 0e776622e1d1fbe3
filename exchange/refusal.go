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
	// Limit is the name of the limit, quota or rule that refused; empty: none did. It is a label of metrics: of a closed set.
	Limit string
	// Problem is the type of the problem+json body, a URI; empty: about:blank.
	Problem string
	// RetryName is the name of the field with the seconds to wait; nil: Retry-After.
	RetryName []byte
	// Body is the whole body with its type instead of a made one; nil: made.
	Body        []byte
	ContentType []byte
	// Challenge is the WWW-Authenticate of a 401; nil: none.
	Challenge []byte
}

// Problem types of draft-ietf-httpapi-ratelimit-headers.
const (
	ProblemQuota    = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	ProblemReduced  = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
	ProblemAbnormal = "https://iana.org/assignments/http-problem-types#abnormal-usage-detected"
)

// Error lets a refusal travel as an error.
func (r *Refusal) Error() string { return r.Stage + " refused: " + r.Reason }
