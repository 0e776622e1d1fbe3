package throttle

import "time"

// When a server that asks not to be asked is heeded by requests, not only by what need not be sent. One that sheds says so to everybody whom it
// refuses, while it accepts every third: who then was silent for as long as it asked would get nothing from it, and keep away for that long after it is
// well again. So it takes several refusals in a row, over at least a window, with nothing accepted in between.
const (
	silenceRow  = 10
	silenceMost = 5 * time.Minute // how much is believed; the same as of a breaker
	silenceFade = 4               // after it, requests come back over this part of it: all were told the same at the same moment
)

// silence is what a server asked for by refusals.
type silence struct {
	row    int       // refusals that asked for it, since something was accepted
	from   time.Time // … the first of them
	proven bool      // there were enough of them
	end    time.Time
	long   time.Duration
}

// ask takes a refusal in that asks for silence.
func (s *silence) ask(now time.Time, long, window time.Duration) {
	if s.row == 0 {
		s.from = now
	}
	s.row = min(s.row+1, silenceRow)
	s.proven = s.proven || s.row == silenceRow && now.Sub(s.from) >= window
	if long = min(long, silenceMost); now.Add(long).After(s.end) {
		s.end, s.long = now.Add(long), long
	}
}

// left is how long it still lasts, 0 when it is over.
func (s *silence) left(now time.Time) time.Duration { return max(s.end.Sub(now), 0) }

// held is how much of it is kept by requests: 1 while it lasts, and less and less after it.
func (s *silence) held(now time.Time) float64 {
	switch {
	case !s.proven:
		return 0
	case s.end.After(now):
		return 1
	}
	fade := s.long / silenceFade
	return max(0, 1-float64(now.Sub(s.end))/float64(max(fade, 1)))
}
