package proxy

import (
	"strconv"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// deadlineForms are the forms in which a client told its deadline, as bits.
type deadlineForms uint8

const (
	formOwn deadlineForms = 1 << iota
	formEnvoy
	formGRPC
)

func (d deadlineForms) with(id wire.ID) deadlineForms {
	switch id {
	case wire.EvenkeelDeadline:
		return d | formOwn
	case wire.EnvoyTimeout:
		return d | formEnvoy
	}
	return d | formGRPC
}

// addDeadline tells the endpoint how long it may still take, in the forms that the client used and in those that the route wants. What
// was used up since the request came is taken off.
func (s *scratch) addDeadline(x *exchange.Exchange, told deadlineForms) {
	if r := x.Route; r != nil {
		if r.TellDeadline.Own {
			told |= formOwn
		}
		if r.TellDeadline.Envoy {
			told |= formEnvoy
		}
		if r.TellDeadline.GRPC && x.GRPC() {
			told |= formGRPC
		}
	}
	left := max(time.Until(x.Deadline), 0)
	if told&formOwn != 0 {
		s.number(nameDeadline, int64(left/time.Millisecond))
	}
	if told&formEnvoy != 0 {
		s.number(nameEnvoyTimeout, int64(left/time.Millisecond))
	}
	if told&formGRPC != 0 {
		start := len(s.bytes)
		s.bytes = appendGRPCTimeout(s.bytes, left)
		s.fields = append(s.fields, wire.Field{Name: nameGRPCTimeout, Value: s.bytes[start:], ID: wire.GRPCTimeout})
	}
}

// callers reports whether the deadline of x is sooner than that of its route: then the client said so.
func callers(x *exchange.Exchange) bool {
	return x.Route == nil || x.Route.Deadline <= 0 || x.Deadline.Before(x.Start.Add(x.Route.Deadline))
}

// appendGRPCTimeout writes grpc-timeout, which has eight digits at the most, rounded down: who is told less gives up in time.
func appendGRPCTimeout(dst []byte, left time.Duration) []byte {
	unit, letter := time.Microsecond, byte('u')
	if left >= 99*time.Second {
		unit, letter = time.Millisecond, 'm'
	}
	if left >= 24*time.Hour {
		unit, letter = time.Second, 'S'
	}
	return append(strconv.AppendInt(dst, int64(left/unit), 10), letter)
}
