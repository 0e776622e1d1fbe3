package grpcclient

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/even-keel/evenkeel/client/internal/host"
)

// Stream is the interceptor for streams. A stream with one request is tried again until its first answer, by the rules of a unary call. One that
// sends more is tried again only if it could not begin: what was sent is not kept.
func (c *Client) Stream() grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, begin grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		ctx, stop := c.deadline(ctx)
		k, ticket, err := c.ask(ctx, method, cc.Target())
		if err != nil {
			stop()
			return nil, err
		}
		k.number = 1
		s := &stream{call: k, ctx: ctx, stop: stop, ticket: ticket, desc: desc, start: func(ctx context.Context, seen *answer) (grpc.ClientStream, error) {
			return begin(ctx, desc, cc, method, seen.options(opts)...)
		}}
		if err := s.open(); err != nil {
			stop()
			return nil, err
		}
		return s, nil
	}
}

// stream is a stream whose first attempt may be replaced until it has answered. One that sends more than one message is never replaced, as one
// goroutine may send while another reads. One that sends a single message is sent to before it is read.
type stream struct {
	grpc.ClientStream // of the last attempt
	*call
	ctx    context.Context
	stop   context.CancelFunc
	desc   *grpc.StreamDesc
	start  func(context.Context, *answer) (grpc.ClientStream, error)
	ticket host.Ticket

	try     *try // the last one
	settled bool // … is judged
	sent    any
}

// trialQuiet is how long a stream that has said nothing may be the trial of a host that was left alone. A stream may be well and say nothing for hours, or be
// cancelled by whoever opened it, and no call would find out meanwhile whether the host is there again.
const trialQuiet = time.Second

// open begins an attempt, and others after it if it cannot.
func (s *stream) open() error {
	for {
		s.try = s.begin(s.ctx, s.ticket, s.number, 0)
		now, err := s.start(s.try.ctx, &s.try.seen)
		if err == nil {
			s.ClientStream = now
			if t := s.try; t.ticket.Trial() {
				time.AfterFunc(trialQuiet, func() { s.drop(t) })
			}
			return nil
		}
		if err := s.again(err); err != nil {
			return err
		}
	}
}

// again judges an attempt that failed. nil: there shall be another, which has been waited for.
func (s *stream) again(err error) error {
	e := s.ended(s.ctx, s.try, err)
	s.try.stop(context.Canceled)
	v := s.judge(s.ctx, e)
	if !v.Again {
		return e.final(v)
	}
	if err := s.wait(s.ctx, v); err != nil {
		return err
	}
	s.ticket = v.Ticket
	s.number++
	return nil
}

// SendMsg implements grpc.ClientStream. gRPC forbids to change m afterwards, so that it can be sent again as it is.
func (s *stream) SendMsg(m any) error {
	if !s.desc.ClientStreams {
		s.sent = m
	}
	return s.ClientStream.SendMsg(m)
}

// RecvMsg implements grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	for {
		err := s.ClientStream.RecvMsg(m)
		switch {
		case s.settled:
		case err == nil || errors.Is(err, io.EOF):
			s.settled = true
			s.judge(s.ctx, s.ended(s.ctx, s.try, nil))
		case s.desc.ClientStreams:
			s.settled = true
			s.q.Gone = true // what was sent is not kept
			err = s.again(err)
		default:
			if err = s.again(err); err == nil {
				if err = s.replace(); err == nil {
					continue
				}
			}
			s.settled = true
		}
		if err != nil || !s.desc.ServerStreams { // it has ended
			s.try.stop(context.Canceled)
			s.stop()
		}
		return err
	}
}

// replace begins another attempt with the message that was sent.
func (s *stream) replace() error {
	if err := s.open(); err != nil {
		return err
	}
	// io.EOF says that the stream has ended; RecvMsg finds out why.
	if err := s.ClientStream.SendMsg(s.sent); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return s.ClientStream.CloseSend()
}
