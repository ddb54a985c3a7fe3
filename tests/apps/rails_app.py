"""Ruby on Rails, of Debian's packages: a form whose origin it compares with its own address, a redirect, links."""

from .app import App, click, fill

SCRIPT = """
require "action_controller/railtie"
require "action_view/railtie"
require "rack/handler/puma"
class Site < Rails::Application
  config.root = __dir__
  config.eager_load = false
  config.secret_key_base = "x" * 64
  config.hosts.clear
  config.logger = Logger.new($stderr)
  config.session_store :cookie_store, key: "_site_session"
  config.action_controller.forgery_protection_origin_check = true
end
Site.initialize!  # before the controllers: they have the helpers of its routes then
class WordsController < ActionController::Base
  protect_from_forgery with: :exception
  FORM = '<p>hello rails</p><p><%= "said " + params[:said] if params[:said] %></p><%= link_to "other", other_path(n: 7) %>
    <%= form_with url: say_path, local: true do |form| %><%= form.text_field :word %><% end %>'
  def show = render(inline: FORM)
  def say = redirect_to(root_url(said: params[:word]))
  def other = render(inline: '<p>other page <%= params[:n] %></p>')
end
Site.routes.draw do
  root to: "words#show"
  post "/say", to: "words#say"
  get "/other/:n", to: "words#other", as: "other"
  get "/favicon.ico", to: proc { [204, {}, []] }
end
app = Rack::URLMap.new("#{ENV["PREFIX"]}/" => Site)
Rack::Handler::Puma.run(app, Host: "127.0.0.1", Port: ENV["PORT"].to_i, Silent: true)
"""

APP = App(
    name="rails",
    title="Ruby on Rails",
    template="rails-site",
    debian=("ruby-railties", "puma"),
    recipe={"command": ["ruby", "rails/site.rb"], "environment": {"PORT": "{port}", "PREFIX": "{prefix}"}, "keep_prefix": True},
    files={"rails/site.rb": SCRIPT},
    ready="text=hello rails",
    steps={"form": fill("[name=word]", "hello", "text=said hello"), "link": click("text=other", "text=other page 7")},
    deep=("other/3", "text=other page 3"),
    how="`config.ru` maps the prefix to the application (`map PREFIX`), in a template with `keep_prefix`. The check of a form's "
    "origin (`forgery_protection_origin_check`) passes unchanged.",
)
