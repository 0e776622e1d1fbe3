package proxy

import (
	"bytes"
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

// next is the next part of the body of an answer of that length, which its tap has got. Others may wait for what is copied, and must not have to wait for a
// client that reads slowly, or lets no byte through: so all that is at hand is one part, and so is a short body.
func (a *attempt) next(length int64) (p []byte, more bool, err error) {
	p, more, err = a.taste()
	short := length >= 0 && length <= longBody
	for held := false; err == nil && a.tap != nil && len(p) < longBody && (short || a.b.ready()); held = true {
		if !held {
			p = bytes.Clone(p)
		}
		var part []byte
		part, more, err = a.taste()
		p = append(p, part...)
	}
	if err == io.EOF {
		a.untap(a.complete())
	}
	return p, more || err == io.EOF, err
}

// taste is the next part of the body as it comes from the endpoint.
func (a *attempt) taste() (p []byte, more bool, err error) {
	p, more, err = a.b.body()
	if len(p) > 0 && a.tap != nil && !a.tap.Body(a.x, p) {
		a.untap(exchange.Cut)
	}
	return p, more, err
}

// takeAll reads an answer that its tap keeps from the client.
func (a *attempt) takeAll() *exchange.Refusal {
	for {
		p, _, err := a.b.body()
		if len(p) > 0 && !a.tap.Body(a.x, p) {
			a.untap(exchange.Cut)
			a.finish(false)
			return nil
		}
		switch {
		case err == io.EOF:
			a.untap(a.complete())
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

// untap tells the tap how the answer ended, once.
func (a *attempt) untap(how exchange.Ending) {
	if t := a.tap; t != nil {
		a.tap = nil
		t.End(a.x, how)
	}
}

// complete is how an answer ends of which all came.
func (a *attempt) complete() exchange.Ending {
	if len(a.b.trailers()) > 0 {
		return exchange.Trailed
	}
	return exchange.Whole
}
