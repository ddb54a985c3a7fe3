// The extension's own icons, and a letter in a square for templates that have none.

import { LabIcon } from '@jupyterlab/ui-components';

/** Two plugs that meet. */
export const portsIcon = new LabIcon({
  name: 'portproxy:ports',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <path class="jp-PortProxy-stroke" fill="none" stroke="#616161" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"
    d="M9 3v5M15 3v5M6 8h12v4a6 6 0 0 1-12 0zM12 18v3"/>
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
