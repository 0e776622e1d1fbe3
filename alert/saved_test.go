package alert

import (
	"encoding/json"
	"testing"
	"time"
)

// FuzzSaved takes what anybody wrote, and goes on judging with what of it makes sense.
func FuzzSaved(f *testing.F) {
	now := time.Unix(1e9, 0)
	s := NewSet(Config{Rules: map[string]Rule{Many503: {Name: Many503}}, Receivers: []Receiver{{Name: "r"}}, GroupBy: []string{"alert"}})
	s.Step(now, []Signal{{Name: Many503, Labels: map[string]string{"route": "a"}}})
	s.Notify(now)
	if _, err := s.Silence(now, now.Add(time.Hour), map[string]string{"alert": "x[*"}, "", ""); err != nil {
		f.Fatal(err)
	}
	b, err := json.Marshal(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"alerts":[{"name":"many-503","state":"firing"}],"groups":{"a":null,"b":{"receiver":"r"}},"silences":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewSet(Config{Rules: map[string]Rule{Many503: {Name: Many503}}, Receivers: []Receiver{{Name: "r"}}, GroupBy: []string{"alert"}})
		if json.Unmarshal(b, s) != nil {
			return
		}
		s.Rest(now, time.Minute)
		for i := range 3 {
			s.Step(now.Add(time.Duration(i)*time.Hour), []Signal{{Name: Many503}})
			for _, n := range s.Notify(now.Add(time.Duration(i) * time.Hour)) {
				if len(n.Alerts) == 0 {
					t.Error("a notification of nothing")
				}
			}
		}
	})
}
