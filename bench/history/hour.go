package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
)

const (
	hourLook  = 10 * time.Second // between two looks at the memory
	rateLeast = 0.95             // of the requests that were to be sent; with fewer the figure says nothing
)

// Hour is what a node under load came to. Bytes.
type Hour struct {
	Seconds  float64 `json:"seconds"`
	Asked    int     `json:"asked"` // requests a second that were to be sent
	Rate     float64 `json:"rate"`  // that were answered or refused
	Load     paced   `json:"load"`
	Series   int     `json:"series"`
	Rounds   int     `json:"rounds"`
	Resident int64   `json:"resident"` // at the end
	Most     int64   `json:"most"`     // at any look, every ten seconds
	Peak     int64   `json:"peak"`     // the most that the kernel ever counted
	CPU      float64 `json:"cpu"`      // cores, in the mean
	Held     bool    `json:"held"`
}

// hour measures the memory of a node that remembers as many series as were asked for, with its defaults, while requests come through it. The node, the
// endpoint and the generator are processes of their own; what the endpoints show of themselves comes from this one.
func (o order) hour(ctx context.Context, talk io.Writer) (h Hour, err error) {
	shown, end, err := o.show()
	if err != nil {
		return h, err
	}
	defer end()
	at, err := o.ports.FreeAddress("127.0.0.1")
	if err != nil {
		return h, err
	}
	self, err := os.Executable()
	if err != nil {
		return h, err
	}
	service, err := machine.Start(machine.Command{Name: "service", Argv: []string{self, "worker", "service", at}, Dir: o.dir})
	if err != nil {
		return h, err
	}
	defer service.Stop(0)
	if err := service.Listening(at); err != nil {
		return h, err
	}
	n, err := o.node(ctx, setting{every: 10 * time.Second, shown: shown, service: at})
	if err != nil {
		return h, err
	}
	defer n.stop()
	h.Asked = o.rate
	argv := []string{self, "worker", "pace", n.web, strconv.Itoa(o.rate), strconv.Itoa(int(o.length.Seconds()))}
	load, err := machine.Start(machine.Command{Name: "load", Argv: argv, Dir: o.dir, Grab: true})
	if err != nil {
		return h, err
	}
	defer load.Stop(0)
	if err := h.watch(ctx, o, n, load, talk); err != nil {
		return h, err
	}
	h.Rate = float64(h.Load.Answered+h.Load.Refused) / h.Seconds
	h.Held = h.Most <= maxMemory && h.Load.Failed == 0
	if h.Rate < rateLeast*float64(o.rate) {
		return h, fmt.Errorf("%.0f requests a second were answered, not %d: the figure says nothing", h.Rate, o.rate)
	}
	if h.Series < o.series {
		return h, fmt.Errorf("the node has %d series, not %d: the figure says nothing", h.Series, o.series)
	}
	return h, nil
}

// watch looks at the node until the load has ended.
func (h *Hour) watch(ctx context.Context, o order, n *node, load *machine.Process, talk io.Writer) error {
	cpu, err := machine.CPUTime(n.Pid())
	if err != nil {
		return err
	}
	began := time.Now()
	for told := began; !load.Ended(); {
		if err := waitFor(ctx, load, hourLook); err != nil {
			return err
		}
		if n.Ended() {
			return errors.New("the node has ended: " + n.Ending())
		}
		if err := h.look(n, load); err != nil {
			return err
		}
		h.Seconds = time.Since(began).Seconds()
		used, err := machine.CPUTime(n.Pid())
		if err != nil {
			return err
		}
		h.CPU = used.Since(cpu).Total().Seconds() / h.Seconds
		if time.Since(told) >= o.tell || load.Ended() {
			told = time.Now()
			fmt.Fprintf(talk, "after %v: %v\n", time.Since(began).Round(time.Second), h)
		}
	}
	if s := load.Ending(); s != "exit status 0" {
		return fmt.Errorf("the generator ended with %s: %s", s, load.LogTail())
	}
	return nil
}

// look reads what the node holds, and what the generator has told last.
func (h *Hour) look(n *node, load *machine.Process) (err error) {
	if h.Resident, err = machine.RSS(n.Pid()); err != nil {
		return err
	}
	if h.Peak, err = machine.PeakRSS(n.Pid()); err != nil {
		return err
	}
	h.Most = max(h.Most, h.Resident)
	var r Result
	if err := n.status(&r); err != nil {
		return err
	}
	h.Series, h.Rounds = r.Series, r.Rounds
	lines := strings.Split(strings.TrimSpace(load.Output()), "\n")
	_ = json.Unmarshal([]byte(lines[len(lines)-1]), &h.Load) // nothing is told yet, or only half of it: the next look reads it
	return nil
}

func (h *Hour) String() string {
	const mb = 1 << 20
	s := fmt.Sprintf("%.1f MiB resident (most %.1f, peak %.1f), %d series, %d rounds, %d answered, %d refused, %d failed, %.2f cores",
		float64(h.Resident)/mb, float64(h.Most)/mb, float64(h.Peak)/mb, h.Series, h.Rounds, h.Load.Answered, h.Load.Refused, h.Load.Failed, h.CPU)
	if h.Load.Detail != "" {
		s += ": " + h.Load.Detail
	}
	return s
}

// print says what must hold.
func (h *Hour) print(w io.Writer) {
	const mb = 1 << 20
	fmt.Fprintf(w, "memory under load   %6.1f MiB   at the end, %.1f at the most (at most %d at 10,000 series): %d series, %d rounds, %.0f requests a second for %v\n",
		float64(h.Resident)/mb, float64(h.Most)/mb, maxMemory/mb, h.Series, h.Rounds, h.Rate, time.Duration(h.Seconds*float64(time.Second)).Round(time.Second))
}

// waitFor waits for d, for the end of p, or ends with ctx.
func waitFor(ctx context.Context, p *machine.Process, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.Done():
	case <-ctx.Done():
	}
	return ctx.Err()
}
