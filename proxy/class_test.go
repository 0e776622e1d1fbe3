package proxy

import (
	"strings"
	"testing"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

func TestClassTravelsOn(t *testing.T) {
	for _, c := range []struct {
		name, fields string
		class        exchange.Class
		edits        exchange.Edits
		want         string // values of Evenkeel-Class that the endpoint gets
	}{
		{"standard", "", exchange.Standard, exchange.Edits{}, ""},
		{"standard, whatever is said", "evenkeel-class: critical", exchange.Standard, exchange.Edits{}, ""},
		{"critical", "", exchange.Critical, exchange.Edits{}, "critical"},
		{"low, whatever is said", "Evenkeel-Class: critical\nEVENKEEL-CLASS: standard", exchange.Low, exchange.Edits{}, "low"},
		{"taken off by the route", "", exchange.Critical, exchange.Edits{Remove: []string{"Evenkeel-Class"}}, ""},
		{"other words by the route", "", exchange.Low, exchange.Edits{Remove: []string{"Evenkeel-Class"},
			Add: []wire.Field{{Name: nameClass, Value: []byte("batch"), ID: wire.EvenkeelClass}}}, "batch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r wire.Request
			head := strings.ReplaceAll(strings.TrimSpace("GET / HTTP/1.1\nHost: a\n"+c.fields), "\n", "\r\n") + "\r\n\r\n"
			if _, err := r.Parse([]byte(head), wire.Limits{HeadBytes: 1 << 10, Fields: 10}); err != nil {
				t.Fatal(err)
			}
			x := &exchange.Exchange{Request: &r, Class: c.class, Route: &exchange.Route{Request: c.edits}}
			var s scratch
			for range 2 { // a second attempt says the same
				s.requestFields(x)
				var got []string
				for _, f := range s.fields {
					if wire.EqualFold(f.Name, "evenkeel-class") {
						got = append(got, string(f.Value))
					}
				}
				if strings.Join(got, ",") != c.want {
					t.Errorf("the endpoint gets %q, want %q", got, c.want)
				}
			}
		})
	}
}
