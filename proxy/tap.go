package proxy

import (
	"errors"
	"io"

	"github.com/even-keel/evenkeel/exchange"
)

// tapped asks the tap of the exchange what becomes of the answer, whose fields are prepared in s. all: the client gets nothing of it.
func (a *attempt) tapped(s *scratch, length int64) (all bool) {
	if length == noBody {
		length = 0
	}
	taking, more := a.x.Tap.Head(a.x, s.resp.Status, s.fields[:s.shared:s.shared], length)
	s.fields = append(s.fields, more...)
	if taking != exchange.TakeNothing {
		a.tap = a.x.Tap
	}
	return taking == exchange.TakeAll
}

// takeAll reads an answer that its tap keeps from the client.
func (a *attempt) takeAll() *exchange.Refusal {
	for {
		p, _, err := a.b.body()
		if len(p) > 0 && !a.tap.Body(a.x, p) {
			a.untap(false)
			a.finish(false)
			return nil
		}
		switch {
		case err == io.EOF:
			a.untap(len(a.b.trailers()) == 0)
			a.finish(true)
			return nil
		case err != nil && errors.Is(err, errClientGone):
			return a.clientLeft()
		case err != nil:
			a.finish(false)
			a.x.Result.Reason = "truncated"
			return nil
		}
	}
}

// untap tells the tap that the answer is over, once.
func (a *attempt) untap(whole bool) {
	if t := a.tap; t != nil {
		a.tap = nil
		t.End(a.x, whole)
	}
}
