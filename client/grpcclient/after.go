package grpcclient

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/even-keel/evenkeel/client"
	"github.com/even-keel/evenkeel/contain/retry"
)

// RetryAfter is how long to wait, at the least, before a call like the one that ended with err is worth making again: as the server asks by
// grpc-retry-pushback-ms, or as a *client.Refused knows. 0: nobody says.
func RetryAfter(err error) time.Duration {
	var what *said
	if errors.As(err, &what) {
		return what.after
	}
	return client.RetryAfter(nil, err)
}

// NoRetry marks the error that a server's call will end with: it is not worth trying again, or has been tried here already. The error of a call made here
// that was tried as often as it may be, or that its server forbade to try again, marks what it is returned from by itself, where ReceiveUnary or
// ReceiveStream is in use.
func NoRetry(ctx context.Context) { _ = grpc.SetTrailer(ctx, never()) } // fails when ctx is no call of a server

func never() metadata.MD { return metadata.Pairs(retry.FieldPushback, "-1") }

// said is an error with what is known of trying again. To package status it is the same as the error in it.
type said struct {
	error
	after time.Duration // that the server asks for; 0: nothing
	never bool          // it was tried here, or must not be
}

// Unwrap lets errors.As and errors.Is find what the server said.
func (s *said) Unwrap() error { return s.error }

// GRPCStatus is what status.FromError finds.
func (s *said) GRPCStatus() *status.Status { return status.Convert(s.error) }

// spent says whether trying err again is of no use to anybody.
func spent(err error) bool {
	var what *said
	return errors.As(err, &what) && what.never
}
