package screen

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental"
	"github.com/corazawaf/coraza/v3/types"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// maxDirectives is how large a file of directives may be: the whole core rule set has 600 KiB.
const maxDirectives = 4 << 20

// setup is what makes rule sets differ. Mode is not in it: a rule set finds attacks, the stage decides what becomes of them.
type setup struct {
	paranoia, anomaly, body int
	exclude                 string // words, one per line
	files                   string // names, one per line
}

func setupOf(c *site.Screen, all *site.Screening) setup {
	return setup{c.Paranoia, c.Anomaly, int(c.BodyBytes), strings.Join(c.Exclude, "\n"), strings.Join(all.Directives, "\n")}
}

// exclusion is one word of exclude: a range of rules, or a tag.
type exclusion struct {
	from, to int
	tag      string
}

// tagForm is what tags of the core rule set consist of.
var tagForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./:-]*$`)

// parseExclusion reads a number, a range or a tag.
func parseExclusion(word string) (exclusion, error) {
	first, last, isRange := strings.Cut(word, "-")
	from, err := strconv.Atoi(first)
	if err != nil {
		if !tagForm.MatchString(word) {
			return exclusion{}, fmt.Errorf("exclude names %q, which is neither the number of a rule, a range such as 942000-942999 nor a tag", word)
		}
		return exclusion{tag: word}, nil
	}
	to := from
	if isRange {
		to, err = strconv.Atoi(last)
	}
	if err != nil || from <= 0 || to < from {
		return exclusion{}, fmt.Errorf("exclude names %q, which is no range of rules such as 942000-942999", word)
	}
	return exclusion{from: from, to: to}, nil
}

func (e exclusion) covers(rule int) bool { return e.tag == "" && e.from <= rule && rule <= e.to }

// engine is a rule set that was built. Any number of goroutines may use it.
type engine struct {
	waf   coraza.WAF
	setup setup
	rules int
	took  time.Duration
}

// newEngine builds a rule set.
func newEngine(key setup) (*engine, error) {
	start := time.Now()
	removed, err := removals(key.exclude)
	if err != nil {
		return nil, err
	}
	cfg := coraza.NewWAFConfig().WithRootFS(coreruleset.FS).WithDirectives(preamble(key))
	for _, name := range requestRules {
		cfg = cfg.WithDirectives("Include @owasp_crs/" + name + ".conf")
	}
	for name := range strings.SplitSeq(key.files, "\n") {
		if name == "" {
			continue
		}
		text, err := readDirectives(name)
		if err != nil {
			return nil, err
		}
		if _, err := coraza.NewWAF(coraza.NewWAFConfig().WithRootFS(coreruleset.FS).WithDirectives(text)); err != nil { // alone first, so that its mistakes bear its name
			return nil, fmt.Errorf("screening.directives: %s is not understood: %w", name, err)
		}
		cfg = cfg.WithDirectives(text)
	}
	waf, err := coraza.NewWAF(cfg.WithDirectives(removed + above(key.paranoia) + closing))
	if err != nil {
		return nil, fmt.Errorf("the rule set cannot be built: %w", err)
	}
	e := &engine{waf: waf, setup: key, took: time.Since(start)}
	if counted, is := waf.(experimental.WAFWithRules); is {
		e.rules = counted.RulesCount()
	}
	return e, nil
}

func readDirectives(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("screening.directives cannot be read: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDirectives+1))
	if err != nil {
		return "", fmt.Errorf("screening.directives cannot be read: %w", err)
	}
	if len(text) > maxDirectives {
		return "", fmt.Errorf("screening.directives: %s is larger than %d bytes", name, maxDirectives)
	}
	return string(text), nil
}

// removals are the directives that take rules out.
func removals(exclude string) (string, error) {
	var b strings.Builder
	for word := range strings.SplitSeq(exclude, "\n") {
		if word == "" {
			continue
		}
		e, err := parseExclusion(word)
		switch {
		case err != nil:
			return "", err
		case e.tag != "":
			fmt.Fprintf(&b, "SecRuleRemoveByTag %q\n", e.tag)
		case e.from == e.to:
			fmt.Fprintf(&b, "SecRuleRemoveById %d\n", e.from)
		default:
			fmt.Fprintf(&b, "SecRuleRemoveById \"%d-%d\"\n", e.from, e.to)
		}
	}
	return b.String(), nil
}

// close frees what coraza keeps of the rule set. Requests that it looks at go on.
func (e *engine) close() {
	if c, is := e.waf.(experimental.WAFCloser); is {
		_ = c.Close()
	}
}

// maxNamed is how many rules of one request are counted and logged. An attack that sets off more is no clearer for them.
const maxNamed = 32

// verdict is what a rule set found.
type verdict struct {
	attack bool
	n      int
	rules  [maxNamed]string
}

// run has the rule set look at x. failed: it could not.
func (e *engine) run(x *exchange.Exchange, body []byte, whole bool) (v verdict, failed bool) {
	defer func() {
		if recover() != nil { // a rule set is data from elsewhere, run by much code: it may cost one request its check, not the process
			v, failed = verdict{}, true
		}
	}()
	tx := e.waf.NewTransactionWithID(string(x.RequestID))
	defer tx.Close()
	hand(tx, x)
	stopped := tx.ProcessRequestHeaders()
	if stopped == nil {
		var err error
		if stopped, err = e.body(tx, x, body, whole); err != nil {
			return verdict{}, true
		}
	}
	if stopped == nil {
		return verdict{}, false
	}
	v.attack = true
	v.name(tx, stopped.RuleID)
	return v, false
}

// hand tells the rule set what the request is.
func hand(tx types.Transaction, x *exchange.Exchange) {
	r := x.Request
	tx.ProcessConnection(x.IP.String(), int(x.Client.Port()), x.Local.Addr().String(), int(x.Local.Port()))
	protocol := "HTTP/1.1"
	switch {
	case x.Protocol == exchange.HTTP2:
		protocol = "HTTP/2.0"
	case r.Minor == 0:
		protocol = "HTTP/1.0"
	}
	tx.ProcessURI(string(r.Target), string(r.Method), protocol)
	hosted := false
	for i := range r.Fields {
		f := &r.Fields[i]
		hosted = hosted || len(f.Name) == len("host") && strings.EqualFold(string(f.Name), "host")
		tx.AddRequestHeader(string(f.Name), string(f.Value))
	}
	if !hosted && len(r.Host) > 0 { // HTTP/2 has :authority
		tx.AddRequestHeader("Host", string(r.Host))
	}
	tx.SetServerName(string(x.Host))
}

// body has the rules of the second phase look at arguments and body.
func (e *engine) body(tx types.Transaction, x *exchange.Exchange, body []byte, whole bool) (*types.Interruption, error) {
	if len(body) > 0 {
		if isJSON(contentType(x)) {
			body = readable(body, whole)
		}
		if !whole {
			body = filled(body, e.setup.body+slack)
		}
		stopped, _, err := tx.WriteRequestBody(body)
		if stopped != nil || err != nil {
			return stopped, err
		}
	}
	return tx.ProcessRequestBody()
}

// filled is body with blanks behind it up to n bytes: the rule set then knows that it reached its limit.
func filled(body []byte, n int) []byte {
	return append(append(make([]byte, 0, n), body...), bytes.Repeat([]byte(" "), max(n-len(body), 0))...)
}

// name notes the rules that made the request an attack, and the rule that decided.
func (v *verdict) name(tx types.Transaction, decided int) {
	for _, m := range tx.MatchedRules() {
		id := m.Rule().ID()
		if id < 1 || id >= 900000 && id < 910000 || id == decided || m.Message() == "" { // preparations say nothing of the request
			continue
		}
		if name := strconv.Itoa(id); v.n < maxNamed-1 && !slices.Contains(v.rules[:v.n], name) {
			v.rules[v.n] = name
			v.n++
		}
	}
	v.rules[v.n] = strconv.Itoa(decided)
	v.n++
}
