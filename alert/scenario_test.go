package alert

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what scenarios say into their files")

// scenario plays the commands of a file in testdata. What they say follows each, indented. Alerts are judged every ten seconds.
//
//	groups by=LABEL,… wait=T interval=T repeat=T
//	receiver NAME [severity=…] [alert=…] [raw] [quiet]
//	on ALERT LABEL=VALUE…     from now on it holds
//	off ALERT LABEL=VALUE…
//	run LENGTH
//	silence LENGTH LABEL=VALUE…
//	unsilence ID
//	try ALERT LENGTH          a sample
//	status
//	restart                   into a file and back; ten seconds without judging
type scenario struct {
	t     *testing.T
	now   time.Time
	set   *Set
	cfg   Config
	holds map[string]Signal
	out   strings.Builder
}

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d scenarios: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("it says:\n%s", got)
			}
		})
	}
}

func play(t *testing.T, text string) string {
	s := &scenario{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), holds: map[string]Signal{}}
	s.cfg = Config{Rules: map[string]Rule{}, Inhibitions: ShippedInhibitions(), GroupBy: []string{"alert"}, GroupWait: 30 * time.Second, GroupInterval: 5 * time.Minute, Repeat: 4 * time.Hour}
	for _, r := range Shipped() {
		s.cfg.Rules[r.Name] = r
	}
	s.set = NewSet(s.cfg)
	var out strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue
		}
		out.WriteString(line + "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		s.out.Reset()
		s.do(strings.Fields(line))
		out.WriteString(s.out.String())
	}
	return out.String()
}

func (s *scenario) say(format string, args ...any) { fmt.Fprintf(&s.out, "  "+format+"\n", args...) }

// options are NAME=VALUE and bare words.
func options(args []string) map[string]string {
	out := map[string]string{}
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		out[k] = v
	}
	return out
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func (s *scenario) do(args []string) {
	o := options(args[1:])
	switch args[0] {
	case "groups":
		s.cfg.GroupBy = list(o["by"])
		s.cfg.GroupWait, s.cfg.GroupInterval, s.cfg.Repeat = s.length(o["wait"]), s.length(o["interval"]), s.length(o["repeat"])
		s.set.Use(s.cfg)
	case "receiver":
		_, raw := o["raw"]
		_, quiet := o["quiet"]
		s.cfg.Receivers = append(s.cfg.Receivers, Receiver{Name: args[1], Severities: list(o["severity"]), Alerts: list(o["alert"]), Raw: raw, Resolved: !quiet})
		s.set.Use(s.cfg)
	case "on", "off":
		labels := options(args[2:])
		key := keyOf(args[1], labels)
		delete(s.holds, key)
		if args[0] == "on" {
			s.holds[key] = Signal{Name: args[1], Labels: labels}
		}
	case "run":
		s.run(s.length(args[1]))
	case "silence":
		x, err := s.set.Silence(s.now, s.now.Add(s.length(args[1])), options(args[2:]), "me", "")
		s.say("%s %v", x.ID, err)
	case "unsilence":
		if err := s.set.EndSilence(s.now, args[1]); err != nil {
			s.say("%v", err)
		}
	case "try":
		s.set.Try(s.now, s.now.Add(s.length(args[2])), s.cfg.Rules[args[1]])
	case "status":
		for _, a := range s.set.Alerts() {
			s.say("%s %s %s%s", a.State, a.Severity, a.Key(), muted(a))
		}
	case "restart":
		b, err := json.Marshal(s.set)
		if err != nil {
			s.t.Fatal(err)
		}
		s.set = NewSet(s.cfg)
		if err := json.Unmarshal(b, s.set); err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(10 * time.Second)
		s.set.Rest(s.now, time.Minute)
	default:
		s.t.Fatalf("there is no command %q", args[0])
	}
}

func muted(a Alert) string {
	text := ""
	if len(a.Silences) > 0 {
		text = ", silenced by " + strings.Join(a.Silences, " ")
	}
	if a.Inhibited != "" {
		text += ", left out for " + a.Inhibited
	}
	return text
}

func (s *scenario) run(length time.Duration) {
	begin := s.now
	for s.now.Sub(begin) < length {
		s.now = s.now.Add(10 * time.Second)
		at := "+" + s.now.Sub(begin).String()
		var signals []Signal
		for _, key := range slices.Sorted(maps.Keys(s.holds)) {
			signals = append(signals, s.holds[key])
		}
		for _, c := range s.set.Step(s.now, signals) {
			from := c.From
			if from == "" {
				from = "nothing"
			}
			s.say("%s %s: %s → %s", at, c.Alert.Key(), from, c.Alert.State)
		}
		for _, n := range s.set.Notify(s.now) {
			var keys []string
			for _, a := range n.Alerts {
				keys = append(keys, a.Key()+" "+a.State)
			}
			s.say("%s tell %s, %s: %s", at, n.Receiver, n.Status, strings.Join(keys, "; "))
		}
	}
}

func (s *scenario) length(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}
