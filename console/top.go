package console

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
)

// TopOptions says what Top shows and where.
type TopOptions struct {
	Admin    string      // the admin listener, host:port or a URL
	Token    string      // bearer token; empty: none
	TLS      *tls.Config // for https; nil: the system's
	In       io.Reader   // keys; nil: standard input
	Out      io.Writer
	Terminal bool          // Out is a terminal: the view fills it and takes keys
	Every    time.Duration // between two views; 0: 1 s, at least 200 ms
	Once     bool          // one view as text, then the end
}

const (
	topEvery  = time.Second
	topLeast  = 200 * time.Millisecond // faster than people read and the node's rates change
	topWait   = 5 * time.Second        // an answer that takes longer is shown as none
	topPoints = 240                    // points of the curve kept: wider than terminals are

	latelyFrom = 120 // cells of a terminal that is wide enough for the curves of endpoints
	latelyWide = 12  // cells of those
)

// Top shows a node until ctx ends or the user quits. It returns an error when the first view cannot be had; later it
// shows that the node is away and goes on asking.
func Top(ctx context.Context, opts TopOptions) error {
	if opts.Every == 0 {
		opts.Every = topEvery
	}
	opts.Every = max(opts.Every, topLeast)
	client := NewClient(opts.Admin, opts.Token).WithTLS(opts.TLS)
	first := fetch(ctx, client)
	if first.err != nil {
		return first.err
	}
	if opts.Once || !opts.Terminal {
		return plainTop(ctx, opts, client, first)
	}
	m := newTop(ctx, client, opts.Every, lipgloss.NewRenderer(opts.Out))
	m = m.take(first)
	o := []tea.ProgramOption{tea.WithContext(ctx), tea.WithOutput(opts.Out), tea.WithAltScreen(), tea.WithoutSignalHandler()}
	if opts.In != nil {
		o = append(o, tea.WithInput(opts.In))
	}
	if _, err := tea.NewProgram(m, o...).Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("the terminal view ended: %w", err)
	}
	return nil
}

// plainTop writes one text for each tick, for pipes and files.
func plainTop(ctx context.Context, opts TopOptions, client *Client, v viewed) error {
	tick := time.NewTicker(opts.Every)
	defer tick.Stop()
	for {
		var err error
		if v.err != nil {
			_, err = fmt.Fprintln(opts.Out, clean(v.err.Error()))
		} else {
			if err = Plain(opts.Out, v.view); err == nil {
				err = NeedsText(opts.Out, v.needs)
			}
		}
		if err != nil || opts.Once {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := fmt.Fprintln(opts.Out); err != nil {
			return err
		}
		if v = fetch(ctx, client); ctx.Err() != nil {
			return nil
		}
	}
}

// fetch asks for one view.
func fetch(ctx context.Context, client *Client) viewed {
	ctx, cancel := context.WithTimeout(ctx, topWait)
	defer cancel()
	v, err := client.Status(ctx)
	if err != nil {
		return viewed{err: err}
	}
	needs, _ := client.Needs(ctx) // a node that cannot say is shown without
	return viewed{view: v, needs: needs}
}

// Messages of the model.
type (
	viewed struct {
		view  View
		needs Needs
		err   error
	}
	said struct {
		text string
		bad  bool
	}
	due struct{}
)

// orders are how endpoints may be sorted, in the order the s key goes through them.
var orders = []string{"site order", "req/s", "latency", "failures", "state"}

// place is an endpoint by name, which stays the same while the list changes.
type place struct{ pool, address string }

// question waits for y or n.
type question struct {
	at    place
	state string
}

// top is the terminal view as a pure machine: Update takes a message and returns the next top; only commands touch the network.
type top struct {
	ctx    context.Context
	client *Client
	every  time.Duration
	ink    ink

	view     View
	needs    Needs
	err      error
	rates    []float64
	lately   map[place][]float64 // the same of each endpoint, shorter
	width    int
	height   int
	at       place
	order    int
	filter   string
	typing   bool
	help     bool
	load     bool // the overload view instead of endpoints
	question *question
	said     said
}

func newTop(ctx context.Context, client *Client, every time.Duration, r *lipgloss.Renderer) top {
	return top{ctx: ctx, client: client, every: every, ink: newInk(r), width: 100, height: 30}
}

// Init asks for the second view; the first is there.
func (m top) Init() tea.Cmd { return m.wait() }

func (m top) wait() tea.Cmd { return tea.Tick(m.every, func(time.Time) tea.Msg { return due{} }) }

// Update is one step.
func (m top) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case due:
		return m, func() tea.Msg { return fetch(m.ctx, m.client) }
	case viewed:
		return m.take(msg), m.wait()
	case said:
		m.said = msg
	case tea.KeyMsg:
		return m.keys(msg)
	}
	return m, nil
}

// keys takes what one read of the terminal brought: fast fingers bring several keys at once. Pasted text is
// only taken where text is wanted.
func (m top) keys(k tea.KeyMsg) (top, tea.Cmd) {
	if k.Type != tea.KeyRunes || k.Alt || k.Paste && !m.typing {
		if k.Paste {
			return m, nil
		}
		return m.key(k)
	}
	var all []tea.Cmd
	for _, r := range k.Runes {
		var cmd tea.Cmd
		if m, cmd = m.key(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}}); cmd != nil {
			all = append(all, cmd)
		}
	}
	return m, tea.Sequence(all...)
}

// take shows a new view, or that there was none.
func (m top) take(v viewed) top {
	if m.err = v.err; v.err != nil {
		return m
	}
	if len(m.rates) == 0 {
		m.rates = append(m.rates, v.view.Totals.History...)
	}
	m.view, m.needs = v.view, v.needs
	m.rates = append(m.rates[:len(m.rates):len(m.rates)], v.view.Totals.RPS)
	m.rates = m.rates[max(0, len(m.rates)-topPoints):]
	lately := map[place][]float64{} // a new one: who holds the old top may still show it
	for _, p := range v.view.Pools {
		for _, e := range p.Endpoints {
			at := place{p.Name, e.Address}
			list := append(m.lately[at], e.RPS)
			lately[at] = slices.Clone(list[max(0, len(list)-latelyWide):])
		}
	}
	m.lately = lately
	return m.settle()
}

// settle keeps the selection on an endpoint that is shown.
func (m top) settle() top {
	list := m.places()
	if len(list) > 0 && !slices.Contains(list, m.at) {
		m.at = list[0]
	}
	return m
}

// key takes one key, which means what the line at the bottom says.
func (m top) key(k tea.KeyMsg) (top, tea.Cmd) {
	name := k.String()
	switch {
	case name == "ctrl+c":
		return m, tea.Quit
	case m.question != nil:
		q := *m.question
		m.question = nil
		if name == "y" {
			return m, m.set(q)
		}
		m.said = said{text: "nothing was changed"}
		return m, nil
	case m.typing:
		return m.typed(k), nil
	case m.help:
		m.help = false
		return m, nil
	}
	m.said = said{}
	switch name {
	case "q":
		return m, tea.Quit
	case "?", "h":
		m.help = true
	case "esc":
		m.filter = ""
		m = m.settle()
	case "o":
		m.load = !m.load
	case "/":
		m.load, m.typing = false, true
	case "s":
		m.order = (m.order + 1) % len(orders)
	case "up", "k":
		m = m.move(-1)
	case "down", "j":
		m = m.move(1)
	case "tab", "right":
		m = m.hop(1)
	case "shift+tab", "left":
		m = m.hop(-1)
	case "d", "u", "x":
		if m.at.address != "" && !m.load {
			m.question = &question{m.at, map[string]string{"d": AdminDrain, "u": AdminUp, "x": AdminDown}[name]}
		}
	}
	return m, nil
}

// typed takes a key of the filter.
func (m top) typed(k tea.KeyMsg) top {
	const limit = 60 // runes: wider than the line it is shown in is of no use
	switch k.Type {
	case tea.KeyEnter:
		m.typing = false
	case tea.KeyEsc:
		m.typing, m.filter = false, ""
	case tea.KeyBackspace:
		_, n := utf8.DecodeLastRuneInString(m.filter)
		m.filter = m.filter[:len(m.filter)-n]
	case tea.KeyRunes, tea.KeySpace:
		if utf8.RuneCountInString(m.filter) < limit {
			m.filter += clean(string(k.Runes))
		}
	}
	return m.settle()
}

// move goes up or down one endpoint.
func (m top) move(by int) top {
	list := m.places()
	if i := slices.Index(list, m.at); i >= 0 {
		m.at = list[min(max(i+by, 0), len(list)-1)]
	}
	return m
}

// hop goes to the first endpoint of the next or former pool, round the end.
func (m top) hop(by int) top {
	var firsts []place
	at := 0
	for _, p := range m.places() {
		if len(firsts) == 0 || firsts[len(firsts)-1].pool != p.pool {
			firsts = append(firsts, p)
		}
		if p == m.at {
			at = len(firsts) - 1
		}
	}
	if n := len(firsts); n > 0 {
		m.at = firsts[(at+by+n)%n]
	}
	return m
}

// set is the command that asks the node for a change.
func (m top) set(q question) tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(m.ctx, topWait)
		defer cancel()
		if err := m.client.SetEndpoint(ctx, q.at.pool, q.at.address, q.state); err != nil {
			return said{text: err.Error(), bad: true}
		}
		return said{text: q.at.address + " in pool " + q.at.pool + " is set to " + q.state}
	}
}

// places are the endpoints shown, from the top down.
func (m top) places() (list []place) {
	for _, p := range m.view.Pools {
		for _, e := range m.shown(p) {
			list = append(list, place{p.Name, e.Address})
		}
	}
	return list
}

// shown are the endpoints of p that the filter lets through, sorted.
func (m top) shown(p Pool) []Endpoint {
	var list []Endpoint
	for _, e := range p.Endpoints {
		text := p.Name + " " + e.Address + " " + e.Zone + " " + e.State + " " + e.Why
		if strings.Contains(strings.ToLower(text), strings.ToLower(m.filter)) {
			list = append(list, e)
		}
	}
	switch orders[m.order] {
	case "req/s":
		sortBy(list, func(a, b Endpoint) bool { return a.RPS > b.RPS })
	case "latency":
		sortBy(list, func(a, b Endpoint) bool { return latencyOf(a) > latencyOf(b) })
	case "failures":
		sortBy(list, func(a, b Endpoint) bool { return a.Failures > b.Failures })
	case "state":
		sortBy(list, func(a, b Endpoint) bool { return urgency(a.State) > urgency(b.State) })
	}
	return list
}
