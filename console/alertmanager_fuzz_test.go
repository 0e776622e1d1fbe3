package console

import (
	"regexp"
	"strings"
	"testing"
)

// FuzzFilters: what anybody asks for is understood or refused.
func FuzzFilters(f *testing.F) {
	for _, s := range []string{`alertname="a"`, `a=~"b.*"`, `a!=b`, `a!~"("`, "", "=", `a="\x"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if all, err := parseFilters([]string{text}); err == nil {
			all.fit(map[string]string{"alertname": "a", "b": text})
		}
	})
}

// FuzzGlob: a pattern that is taken means the same as before.
func FuzzGlob(f *testing.F) {
	for _, s := range []string{"many-.*", ".*", `a\.b`, "a|b", "(?i)a", "^a.*b$", `\Qa.*\E`} {
		f.Add(s, "many-429")
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		glob, plain := globOf(pattern)
		if !plain || strings.ContainsAny(text, "\n") {
			return
		}
		re, err := regexp.Compile("^(?:" + pattern + ")$")
		if err != nil { // one that ends within \Q has no end to put anything behind
			return
		}
		parts := strings.Split(glob, "*")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		if same := regexp.MustCompile(`(?s)^(?:` + strings.Join(parts, ".*") + `)$`); re.MatchString(text) != same.MatchString(text) {
			t.Errorf("%q is not %q for %q", pattern, glob, text)
		}
	})
}
