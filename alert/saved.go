package alert

import (
	"encoding/json"
	"fmt"
	"time"
)

// saved is a set in a file.
type saved struct {
	Alerts   []Alert           `json:"alerts"`
	Silences []Silence         `json:"silences"`
	Groups   map[string]*group `json:"groups"`
	Made     int               `json:"made"`
}

// MarshalJSON writes all that must outlive a restart.
func (s *Set) MarshalJSON() ([]byte, error) {
	return json.Marshal(saved{s.Alerts(), s.Silences(), s.groups, s.made})
}

// UnmarshalJSON takes what MarshalJSON wrote, instead of all that the set knows.
func (s *Set) UnmarshalJSON(b []byte) error {
	var in saved
	if err := json.Unmarshal(b, &in); err != nil {
		return fmt.Errorf("alerts cannot be understood: %w", err)
	}
	if len(in.Alerts) > maxAlerts || len(in.Silences) > maxSilences {
		return fmt.Errorf("%d alerts and %d silences are more than are ever written", len(in.Alerts), len(in.Silences))
	}
	s.alerts, s.silences, s.groups, s.made = map[string]*Alert{}, in.Silences, map[string]*group{}, in.Made
	for _, a := range in.Alerts {
		s.alerts[a.Key()] = &a
	}
	for key, g := range in.Groups {
		if g != nil {
			if g.Fires == nil {
				g.Fires = map[string]bool{}
			}
			s.groups[key] = g
		}
	}
	return nil
}

// Rest keeps alerts from before a restart as they are for a while, until what they are about is known again.
func (s *Set) Rest(now time.Time, patience time.Duration) {
	for _, a := range s.alerts {
		if a.State != Resolved && !a.Sample && a.Seen.Before(now) {
			a.Seen = now.Add(patience)
		}
	}
}
