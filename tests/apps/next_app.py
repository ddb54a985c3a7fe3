"""Next.js: a production build with its server. Server actions compare `Origin` with `X-Forwarded-Host`, else with `Host`."""

from .app import App, click, fill

LAYOUT = "export default ({ children }) => <html><body>{children}</body></html>;"
PAGE = """
import Link from 'next/link';
import { say, send } from './actions';
import Live from './live';
export default async ({ searchParams }) => {
  const { said, sent } = await searchParams;
  return <><h1>hello next</h1><Live/><Link href="/other/7">other</Link> <p>{said && 'said ' + said}</p>
    <p>{sent && sent + ' bytes arrived'}</p>
    <form action={say}><input name="word"/></form>
    <form action={send}><input type="file" name="file"/><button>send</button></form></>;
};
"""
ACTIONS = """'use server';
import { redirect } from 'next/navigation';
export const say = async form => redirect('/?said=' + form.get('word'));
export const send = async form => redirect('/?sent=' + (await form.get('file').arrayBuffer()).byteLength);
"""
LIVE = """'use client';
import { useEffect, useState } from 'react';
export default () => {
  const [count, setCount] = useState(0), [said, setSaid] = useState('');
  useEffect(() => {
    const source = new EventSource(process.env.NEXT_PUBLIC_BASE + '/events');
    source.onmessage = event => { setSaid(event.data); source.close(); };
  }, []);
  return <><button onClick={() => setCount(count + 1)}>count</button> <p>pressed {count}</p> <p>{said}</p></>;
};
"""
EVENTS = """export const dynamic = 'force-dynamic';
export const GET = () => new Response('data: an event\\n\\n', { headers: { 'Content-Type': 'text/event-stream' } });
"""
OTHER = "export default async ({ params }) => <p>other page {(await params).n}</p>;"
CONFIG = "module.exports = { basePath: process.env.NEXT_PUBLIC_BASE };"


def live(frame):
    """An event has come, and the page's own script runs."""
    frame.locator("p:has-text('an event')").wait_for()
    click("button:has-text('count')", "text=pressed 1")(frame)


def send(frame):
    frame.locator("input[type=file]").set_input_files({"name": "up.txt", "mimeType": "text/plain", "buffer": b"hello upload"})
    click("button:has-text('send')", "text=12 bytes arrived")(frame)


APP = App(
    name="next",
    title="Next.js",
    template="next-site",
    npm=("next", "react", "react-dom"),
    recipe={
        "command": ["sh", "-c", "npx next build --webpack && exec npx next start --hostname 127.0.0.1 --port {port}"],
        "environment": {"NEXT_PUBLIC_BASE": "{prefix}", "NEXT_TELEMETRY_DISABLED": "1"},
        "cwd": "next",
        "keep_prefix": True,
        "ready_timeout": 180,
    },
    files={
        "next/package.json": "{}",
        "next/next.config.js": CONFIG,
        "next/app/layout.js": LAYOUT,
        "next/app/page.js": PAGE,
        "next/app/actions.js": ACTIONS,
        "next/app/live.js": LIVE,
        "next/app/events/route.js": EVENTS,
        "next/app/other/[n]/page.js": OTHER,
        "next/app/favicon.ico/route.js": "export const GET = () => new Response(null, { status: 204 });",
    },
    links={"next/node_modules": ".venv/apps/node/node_modules"},
    ready="text=hello next",
    steps={"live": live, "link": click("text=other", "text=other page 7"),
           "form": fill("[name=word]", "hello", "text=said hello"), "upload": send},
    deep=("other/3", "text=other page 3"),
    how="`basePath` in `next.config.js` is the prefix; it is fixed when the site is built, so the template builds it first.",
)  # fmt: skip
