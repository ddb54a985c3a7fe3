// The extension's icons, and a letter in a square for templates without one.

import { LabIcon } from '@jupyterlab/ui-components';

/** Two plugs that meet. */
export const portsIcon = new LabIcon({
  name: 'portproxy:ports',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <path class="jp-PortProxy-stroke" fill="none" stroke="#616161" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"
    d="M9 3v5M15 3v5M6 8h12v4a6 6 0 0 1-12 0zM12 18v3"/>
</svg>`
});

/** A window with a tab. */
export const tabIcon = new LabIcon({
  name: 'portproxy:tab',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <path class="jp-PortProxy-stroke" fill="none" stroke="#616161" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"
    d="M4 5h16a1 1 0 0 1 1 1v12a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1zM11 5v5h10"/>
</svg>`
});

/** An arrow that leaves its box. */
export const outsideIcon = new LabIcon({
  name: 'portproxy:outside',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <path class="jp-PortProxy-stroke" fill="none" stroke="#616161" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"
    d="M14 4h6v6M20 4l-9 9M18 14v5a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V7a1 1 0 0 1 1-1h5"/>
</svg>`
});

const COLOURS = ['#1565c0', '#6a1b9a', '#00695c', '#ad1457', '#4527a0', '#2e7d32', '#9f4300', '#37474f'];
const letters = new Map<string, LabIcon>();
const pictures = new Map<string, LabIcon>();

/** The icon of a template or service: its picture, else a letter. */
export function iconOf(shown: { title: string; icon: string } | undefined): LabIcon {
  return shown?.icon ? pictureIcon(shown.icon) : letterIcon(shown?.title ?? '?');
}

/** A picture at an address of this server. An SVG shows it as an `<img>` would: no script in it runs. */
function pictureIcon(url: string): LabIcon {
  let icon = pictures.get(url);
  if (!icon) {
    const address = new URL(url, window.location.href).href.replace(/[&"<>]/g, character => `&#${character.charCodeAt(0)};`);
    const href = encodeURIComponent(address); // LabIcon decodes the text before it parses it
    const svgstr = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><image width="24" height="24" href="${href}"/></svg>`;
    icon = new LabIcon({ name: `portproxy:picture-${pictures.size}`, svgstr });
    pictures.set(url, icon);
  }
  return icon;
}

/** The first letter of a title, always in the same colour. */
export function letterIcon(title: string): LabIcon {
  const letter = /[A-Za-z0-9]/.exec(title)?.[0]?.toUpperCase() ?? '?';
  const sum = [...title].reduce((total, character) => (total * 31 + character.charCodeAt(0)) % 9973, 7);
  const colour = COLOURS[sum % COLOURS.length] ?? '#37474f';
  const name = `portproxy:letter-${letter}-${colour.slice(1)}`;
  let icon = letters.get(name);
  if (!icon) {
    const text = `<text x="12" y="17" text-anchor="middle" font-size="14" font-weight="600" fill="#fff" font-family="sans-serif">${letter}</text>`;
    const svgstr = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><rect x="1" y="1" width="22" height="22" rx="5" fill="${colour}"/>${text}</svg>`;
    icon = new LabIcon({ name, svgstr });
    letters.set(name, icon);
  }
  return icon;
}
