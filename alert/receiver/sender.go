package receiver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"time"

	"github.com/even-keel/evenkeel/alert"
	"github.com/even-keel/evenkeel/site"
)

// Waits of one attempt.
const (
	sendTimeout = 10 * time.Second
	answerMost  = 4 << 10 // bytes of an answer that are looked at
)

// Sender tells one receiver of one notification. An error that is errPermanent is not tried again.
type Sender func(ctx context.Context, s Site, n alert.Notification) error

// errPermanent says that trying again would fail as before.
var errPermanent = errors.New("it would fail again")

// New makes the sender of a checked receiver.
func New(r *site.Receiver) Sender {
	client := &http.Client{Timeout: sendTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	p := poster{client}
	switch {
	case r.Alertmanager != nil:
		return p.alertmanager(r.Alertmanager)
	case r.Webhook != nil && r.Webhook.Format == "azure":
		return p.azure(r.Webhook)
	case r.Webhook != nil:
		return p.webhook(r.Webhook)
	case r.Slack != nil:
		return p.slack(string(r.Slack.URL))
	case r.Teams != nil:
		return p.teams(string(r.Teams.URL))
	case r.PagerDuty != nil:
		return p.pagerDuty(r.PagerDuty)
	case r.Email != nil:
		return mailer{r.Email, nil}.send
	case r.Exec != nil:
		return runner{r.Exec}.send
	}
	return func(context.Context, Site, alert.Notification) error {
		return fmt.Errorf("receiver %s is of no kind: %w", r.Name, errPermanent)
	}
}

// poster sends JSON.
type poster struct{ client *http.Client }

// post sends one body. Addresses may hold secrets and never stand in an error.
func (p poster) post(ctx context.Context, to string, token site.Secret, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("the message cannot be written (%w): %w", err, errPermanent)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("the address cannot be used: %w", errPermanent)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "evenkeel")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+string(token))
	}
	resp, err := p.client.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return fmt.Errorf("nobody answers: %w", err)
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, answerMost))
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return nil
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code/100 == 5:
		return fmt.Errorf("the answer is %s: %.200q", resp.Status, said)
	}
	return fmt.Errorf("the answer is %s (%.200q): %w", resp.Status, said, errPermanent)
}

// alertmanager sends every alert of the notification; Alertmanager groups by itself. What fires ends by itself there when nothing
// is heard of it for four minutes: it is told every minute.
func (p poster) alertmanager(to *site.ToAlertmanager) Sender {
	const forgottenAfter = 4 * time.Minute
	return func(ctx context.Context, s Site, n alert.Notification) error {
		list := []messageAlert{}
		for _, a := range n.Alerts {
			m := newMessageAlert(s, a)
			if a.State == alert.Firing {
				m.EndsAt = n.At.Add(forgottenAfter)
			}
			list = append(list, m)
		}
		address, err := url.JoinPath(to.URL, "api/v2/alerts")
		if err != nil {
			return fmt.Errorf("the address cannot be used: %w", errPermanent)
		}
		return p.post(ctx, address, to.Token, list)
	}
}

func (p poster) webhook(to *site.ToWebhook) Sender {
	return func(ctx context.Context, s Site, n alert.Notification) error {
		return p.post(ctx, to.URL, to.Token, newMessage(s, n))
	}
}

// each sends one message for every alert, and tries all before it reports what failed: receivers tell repetitions by their ids. While any
// of them may still be taken, the whole is worth another try.
func each(n alert.Notification, send func(alert.Alert) error) error {
	var again, refused []error
	for _, a := range n.Alerts {
		switch err := send(a); {
		case errors.Is(err, errPermanent):
			refused = append(refused, err)
		case err != nil:
			again = append(again, err)
		}
	}
	if len(again) > 0 {
		return errors.Join(again...)
	}
	return errors.Join(refused...)
}

// runner starts a program.
type runner struct{ to *site.ToExec }

func (r runner) send(ctx context.Context, s Site, n alert.Notification) error {
	body, err := json.Marshal(newMessage(s, n))
	if err != nil {
		return fmt.Errorf("the message cannot be written (%w): %w", err, errPermanent)
	}
	return Exec(ctx, r.to.Command, r.to.Timeout, body)
}

// Exec starts a program, gives it a body on standard input, and waits at most so long until it has ended well.
func Exec(ctx context.Context, command []string, timeout time.Duration, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin = bytes.NewReader(body)
	cmd.WaitDelay = time.Second // a child that keeps the pipes open holds up nobody
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s did not end within %v", command[0], timeout)
	case err != nil:
		return fmt.Errorf("%s failed: %w, and said %.200q", command[0], err, out)
	}
	return nil
}

// fingerprint tells alerts apart in few letters.
func fingerprint(a alert.Alert) string {
	sum := sha256.Sum256([]byte(a.Key()))
	return hex.EncodeToString(sum[:8])
}
